"""An instance of a server that speaks DVID's HTTP API as the target of a load."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import lz4.block
import numpy as np
from numpy.typing import NDArray

from dvidcore import errors
from dvidcore.errors import BadRequest, DvidError
from dvidcore.geometry import ZYX
from dvidcore.loading.targets import Target
from dvidcore.local.edges import completed

ATTEMPTS = 6
"""How often a request is sent to a server that is away or busy, with pauses from a quarter of a second up to four."""
TIMEOUT = 600.0


class Server:
    """A server at a URL; each thread has a connection of its own, which is kept."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadRequest(f'"{url}" is not the URL of a server, as http://localhost:8000')
        self._secure, self._host, self._prefix = parts.scheme == "https", parts.netloc, parts.path.rstrip("/")
        self._thread = threading.local()

    def ask(self, verb: str, path: str, body: bytes | memoryview | None = None, attempts: int = ATTEMPTS) -> bytes:
        """The body of an answer. ``path`` is a URL's, with the query.

        Raises the error that the status stands for, with the server's text. A server that is away or busy (503) is
        asked again, so what may not be done twice is asked for with one attempt.
        """
        for attempt in range(attempts):
            last = attempt + 1 == attempts
            try:
                status, data = self._send(verb, path, body)
            except (OSError, http.client.HTTPException) as error:
                self._forget()
                if last:
                    raise errors.Unavailable(f"{self._host} does not answer: {error or type(error).__name__}") from None
            else:
                if status < 400:
                    return data
                if status != 503 or last:
                    raise _error(status, data)
            time.sleep(min(4.0, 0.25 * 2**attempt))
        raise AssertionError("unreachable")

    def _send(self, verb: str, path: str, body: bytes | memoryview | None) -> tuple[int, bytes]:
        connection = getattr(self._thread, "connection", None)
        if connection is None:
            kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
            connection = self._thread.connection = kind(self._host, timeout=TIMEOUT)
        connection.request(verb, self._prefix + path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def _forget(self) -> None:
        connection = getattr(self._thread, "connection", None)
        if connection is not None:
            connection.close()
            self._thread.connection = None

    def ensure_instance(self, version: str, name: str, typename: str, settings: Mapping[str, str]) -> None:
        """Makes an instance where the repo of the version has none of the name, and a repo where there is none."""
        if not json.loads(self.ask("GET", "/api/repos/info")):
            self.ask("POST", "/api/repos", b"{}", attempts=1)
        path = f"/api/repo/{quote(version)}"
        if name not in json.loads(self.ask("GET", f"{path}/info"))["DataInstances"]:
            config = {"typename": typename, "dataname": name, **settings}
            self.ask("POST", f"{path}/instance", json.dumps(config).encode(), attempts=1)


class ServerTarget(Target):
    """An instance of a server that speaks DVID's HTTP API, at ``url`` (``http://host:port``).

    ``version`` is as in its URLs. Raises what ``Server.ask`` raises.
    """

    def __init__(self, url: str, version: str, name: str, user: str = "") -> None:
        self._server = Server(url)
        self._user = {"u": user, "app": "dvidcore"} if user else {}
        self.name = name
        self._path = f"/api/node/{quote(version)}/{quote(name)}"
        info = json.loads(self._server.ask("GET", f"{self._path}/info"))
        base, extended = info["Base"], info.get("Extended") or {}
        if "BlockSize" not in extended:
            raise BadRequest(f'"{name}" is a {base["TypeName"]}, which has no voxels')
        self.labels = base["TypeName"].startswith("label")
        values = extended.get("Values") or []
        if self.labels:
            self.dtype, self.channels = np.dtype("<u8"), 1
        else:
            self.dtype, self.channels = np.dtype(values[0]["DataType"]).newbyteorder("<"), len(values)
        x, y, z = extended["BlockSize"]
        self.block = ZYX(z, y, x)
        self.identity = [url, version, base["DataUUID"]]

    def write(self, low: ZYX, volume: NDArray[Any]) -> None:
        first, whole = completed(np.ascontiguousarray(volume), low, self.block, self._read)
        data = np.ascontiguousarray(whole).reshape(-1).view(np.uint8).data
        options = {"mutate": "true"}
        if self.labels:
            options["compression"] = "lz4"
            data = lz4.block.compress(data, store_size=False)
        self._server.ask("POST", self._raw(first, ZYX(*whole.shape[:3]), options), data)

    def _read(self, low: ZYX, size: ZYX) -> NDArray[Any]:
        options = {"compression": "lz4", "supervoxels": "true"} if self.labels else {}
        data = self._server.ask("GET", self._raw(low, size, options))
        shape = size if self.channels == 1 else (*size, self.channels)
        if self.labels:
            data = lz4.block.decompress(data, uncompressed_size=8 * size.z * size.y * size.x)
        return np.frombuffer(data, self.dtype).reshape(shape)

    def _raw(self, low: ZYX, size: ZYX, options: dict[str, str]) -> str:
        sides, offset = ("_".join(map(str, point.xyz())) for point in (size, low))
        query = urlencode({**options, **self._user})
        return f"{self._path}/raw/0_1_2/{sides}/{offset}{'?' if query else ''}{query}"


def _error(status: int, data: bytes) -> DvidError:
    """The error of a status, with the server's text."""
    text = data.decode(errors="replace").strip()[:500] or f"the server answered {status}"
    known = (errors.BadRequest, errors.Unauthorized, errors.Forbidden, errors.NotFound, errors.TooLarge)
    for kind in (*known, errors.Unavailable):
        if kind.status == status:
            return kind(text)
    return DvidError(text)
