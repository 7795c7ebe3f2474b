"""Where volumes elsewhere lie: URLs, taken apart and compared with what the configuration allows.

A URL is never handed on as it came: it is split here, each part is checked, and what reads it gets the parts. So what
was compared with the allowed prefixes is what is read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from dvidcore.config import REMOTE_SCHEMES, RemoteConfig
from dvidcore.errors import BadRequest

FORMATS = ("auto", "precomputed", "zarr", "zarr3", "n5")
_PREFIXES = {"precomputed": "precomputed", "zarr": "zarr", "zarr2": "zarr", "zarr3": "zarr3", "n5": "n5"}
_HOST = re.compile(r"[A-Za-z0-9_.-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
_REFUSED = re.compile(r"[\x00-\x1f\x7f\\|?#]")
_DEFAULT_PORT = {"http": ":80", "https": ":443"}


@dataclass(frozen=True, slots=True)
class Location:
    """A folder of a file system, a bucket or a web server."""

    scheme: str
    host: str
    """A bucket, or the host and port of a server; empty for files."""
    segments: tuple[str, ...]
    """Of the path; none is empty, ``.`` or ``..``."""

    @property
    def url(self) -> str:
        path = "/".join(self.segments)
        return f"{self.scheme}://{self.host}/{path}" if path else f"{self.scheme}://{self.host}"

    @property
    def service(self) -> str:
        """What answers: requests to one service share its limit."""
        return f"{self.scheme}://{self.host}"

    def within(self, folder: Location) -> bool:
        """Whether it is a folder or lies in it; a folder without host or bucket is all of a scheme."""
        if self.scheme != folder.scheme:
            return False
        if self.scheme == "file":  # resolved, so that no link leads out of the folder
            inside, outside = (os.path.realpath(place.file) for place in (self, folder))
            return inside == outside or inside.startswith(outside.rstrip("/") + "/")
        if not folder.host:
            return True
        return self.host == folder.host and self.segments[: len(folder.segments)] == folder.segments

    @property
    def file(self) -> str:
        """The path of a file."""
        return "/" + "/".join(self.segments)

    def kvstore(self, config: RemoteConfig, path: str = "") -> dict[str, Any]:
        """The tensorstore specification of the folder ``path``, relative, in this location."""
        segments = [*self.segments, *_segments(path, "path", encoded=False)]
        if self.scheme == "file":
            folder = Location("file", "", tuple(segments))
            if not folder.within(self):
                raise BadRequest(f'path: "{path[:80]}" leads out of {self.url[:120]}')
            return {"driver": "file", "path": folder.file + "/"}
        if self.scheme in ("http", "https"):
            return {"driver": "http", "base_url": f"{self.service}/{''.join(part + '/' for part in segments)}"}
        if self.scheme == "gs":
            return {"driver": "gcs", "bucket": self.host, "path": "".join(part + "/" for part in segments)}
        return self._s3(config, segments)

    def _s3(self, config: RemoteConfig, segments: list[str]) -> dict[str, Any]:
        bucket, endpoint = self.host, config.s3_endpoint
        if self.scheme == "vast":
            bucket, endpoint, segments = segments[0], f"https://{self.host}", segments[1:]
        found: dict[str, Any] = {"driver": "s3", "bucket": bucket, "path": "".join(part + "/" for part in segments)}
        if endpoint:
            found["endpoint"] = endpoint
        if config.s3_region or endpoint:
            found["aws_region"] = config.s3_region or "us-east-1"
        found["aws_credentials"] = {"type": config.s3_credentials}
        return found


def parse(text: str, name: str = "URL") -> tuple[Location, str]:
    """A URL such as ``s3://bucket/path``, and the format that it says, ``auto`` where it says none.

    ``precomputed://``, ``zarr://``, ``zarr3://`` or ``n5://`` may stand before it, as in neuroglancer. BadRequest for
    other schemes, for credentials, queries and fragments, and for paths that are not plainly downwards.
    """
    url, format = text.strip(), "auto"
    prefix, _, rest = url.partition("://")
    if prefix in _PREFIXES:
        url, format = rest, _PREFIXES[prefix]
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in REMOTE_SCHEMES:
        raise BadRequest(f'{name}: "{text[:80]}" must be one of {", ".join(s + "://" for s in REMOTE_SCHEMES)}…')
    if _REFUSED.search(rest):
        raise BadRequest(f"{name}: \"{text[:80]}\" must not have a query, a fragment, '|', '\\' or control characters")
    host, _, path = rest.partition("/")
    if scheme == "file":
        if host:
            raise BadRequest(f'{name}: "{text[:80]}" must have three slashes, as in file:///folder')
    elif host and not _HOST.fullmatch(host):
        raise BadRequest(f'{name}: "{host[:60]}" is not a bucket, or a host with a port; no user may stand before it')
    if scheme in ("http", "https", "vast"):
        host = host.lower().removesuffix(_DEFAULT_PORT.get(scheme, ":443"))
    segments = tuple(_segments(path, name, encoded=scheme in ("http", "https")))
    return Location(scheme, host, segments), format


def _segments(path: str, name: str, *, encoded: bool) -> list[str]:
    """The parts of a path; a slash at its end is dropped. BadRequest for one that leads elsewhere."""
    if not path:
        return []
    segments = path.removesuffix("/").split("/")
    for segment in segments:
        plain = unquote(segment) if encoded else segment
        if plain in ("", ".", "..") or _REFUSED.search(plain) or (encoded and ("/" in plain or "%" in plain)):
            raise BadRequest(f'{name}: "{path[:80]}" has the part "{segment[:40]}"; parts must not be empty, . or ..')
    return segments


def permitted(text: str, config: RemoteConfig, name: str = "URL") -> tuple[Location, str]:
    """As ``parse``; BadRequest unless the location lies within what ``[remote] allowed`` says."""
    location, format = parse(text, name)
    if location.scheme != "file" and not location.host:
        raise BadRequest(f'{name}: "{text[:80]}" names no {"bucket" if location.scheme in ("gs", "s3") else "host"}')
    if location.scheme == "vast" and not location.segments:
        raise BadRequest(f'{name}: "{text[:80]}" names no bucket behind the host')
    if not any(location.within(folder) for folder in _allowed(config.allowed)):
        raise BadRequest(
            f'{name}: this server may not read "{location.url[:120]}"; its configuration names what it may read in '
            "[remote] allowed"
        )
    return location, format


def _allowed(prefixes: Iterable[str]) -> Iterable[Location]:
    for prefix in prefixes:
        yield parse(prefix, "[remote] allowed")[0]
