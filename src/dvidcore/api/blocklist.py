"""The block list: users and addresses that are refused, one a line: ``u=USER[,note]`` or ``ip=A.B.*.*[,note]``."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from dvidcore.errors import BadRequest, Blocked


class BlockList:
    """The list in a file, or an empty one. ``reload`` reads it again."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.users: dict[str, str] = {}
        self.addresses: list[tuple[str, str]] = []
        if file is not None:
            self.reload()

    def __bool__(self) -> bool:
        return bool(self.users or self.addresses)

    def reload(self) -> None:
        """Reads the file again; BadRequest, and no change, where it cannot be read or a line says nothing known."""
        if self.file is None:
            return
        try:
            lines = self.file.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BadRequest(f"the block list cannot be read: {error}") from None
        users: dict[str, str] = {}
        addresses: list[tuple[str, str]] = []
        for number, line in enumerate(lines, 1):
            rule, _, note = line.strip().partition(",")
            kind, equal, value = rule.partition("=")
            if not rule or rule.startswith("#"):
                continue
            if not (equal and value) or kind not in ("u", "ip"):
                raise BadRequest(f'the block list, line {number}: "{line[:60]}" is neither u=USER nor ip=ADDRESS')
            if kind == "u":
                users[value] = note.strip()
            else:
                addresses.append((value, note.strip()))
        self.users, self.addresses = users, addresses

    def check(self, user: str, environ: Mapping[str, Any]) -> None:
        """Raises Blocked for a user or an address on the list."""
        if user in self.users:
            raise Blocked(_message("User", user, self.users[user]))
        if self.addresses:
            address = client_address(environ)
            for pattern, note in self.addresses:
                if fnmatchcase(address, pattern):
                    raise Blocked(_message("IP", address, note))


def _message(kind: str, name: str, note: str) -> str:
    return f'{kind} "{name}" is blocked' + (f": {note}" if note else "")


def client_address(environ: Mapping[str, Any]) -> str:
    """The client's address: ``Forwarded: for=``, else the first of ``X-Forwarded-For``, else the peer's."""
    for element in environ.get("HTTP_FORWARDED", "").split(",")[0].split(";"):
        name, _, value = element.strip().partition("=")
        if name.lower() == "for" and value:
            value = value.strip('"')
            if value.startswith("["):
                return str(value[1:].partition("]")[0])
            return str(value.partition(":")[0])
    first = environ.get("HTTP_X_FORWARDED_FOR", "").split(",")[0].strip()
    return str(first or environ.get("REMOTE_ADDR", ""))
