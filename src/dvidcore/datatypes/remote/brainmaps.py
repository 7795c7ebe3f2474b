"""The client of Google's BrainMaps API: sign in with a service account, describe a volume, fetch boxes of it."""

from __future__ import annotations

import base64
import http.client
import math
import socket
import threading
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import numpy as np
import orjson
from numpy.typing import NDArray

from dvidcore.config import RemoteConfig
from dvidcore.datatypes.remote.geometries import Geometry
from dvidcore.datatypes.remote.volumes import volumes
from dvidcore.datatypes.remote.waiting import LONGEST
from dvidcore.errors import BadGateway, BadRequest, GatewayTimeout, MissingExtra
from dvidcore.geometry import ZYX

SCOPE = "https://www.googleapis.com/auth/brainmaps"
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_EARLY = 60
"""Seconds before its end that a token is not used any more."""
_LIFE = 3600
_SMALL = 16 << 20
"""Bytes that an answer which is no voxels may have."""
_PIECE = 1 << 18


class Refused(BadGateway):
    """The service answered, but not with 200."""


@lru_cache(maxsize=64)
def brain_maps(config: RemoteConfig, key: Path) -> BrainMaps:
    """The client of an account, which keeps its token."""
    return BrainMaps(config, key)


def key_path(text: str, config: RemoteConfig, name: str) -> Path:
    """The file of a service account's key; BadRequest unless it lies in the configured folder and can be read."""
    if config.key_folder is None:
        raise BadRequest(
            f"{name}: this server may not read keys; its configuration names their folder in [remote] keyFolder"
        )
    folder = config.key_folder.resolve()
    try:
        path = (folder / text).resolve()
        inside = path.is_relative_to(folder) and path.is_file()
    except (OSError, ValueError, RuntimeError):  # a path that is too long, with a null byte, or links in a circle
        inside = False
    if not inside:
        raise BadRequest(f'{name}: there is no key "{text[:80]}" in the folder that [remote] keyFolder names')
    return path


class BrainMaps:
    """One account's access to the service. Safe to use from many threads."""

    def __init__(self, config: RemoteConfig, key: Path) -> None:
        self._config, self._key = config, key
        self._token, self._until = "", 0.0
        self._lock = threading.Lock()

    def geometries(self, volume: str) -> list[Geometry]:
        """The geometries of a volume. Raises Refused, BadGateway, GatewayTimeout, or BadRequest for a bad key."""
        data = self._ask("GET", f"volumes/{quote(volume, safe=':')}", None, _SMALL)
        try:
            found = [Geometry.of(item) for item in orjson.loads(data)["geometry"]]
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadGateway(
                f"{self._config.brainmaps_url}: the volume's description is not understood: {error}"
            ) from None
        if not found:
            raise BadGateway(f"{self._config.brainmaps_url}: the volume has no geometry")
        return found

    def image(self, volume: str, scale: int, offset: ZYX, size: ZYX, options: Mapping[str, Any]) -> bytes:
        """A box as one encoded image: a slice where it is one voxel thick. ``scale`` counts geometries."""
        geometry = _geometry(scale, offset, size)
        if 1 in size:
            body: dict[str, Any] = {"imageSpec": {"geometry": geometry, "imageOptions": options}}
            path = "imagetile:binary"
        else:
            body = {"geometry": geometry, "subvolumeFormat": "SINGLE_IMAGE", "imageOptions": options}
            path = "subvolume:binary"
        limit = _SMALL + 16 * math.prod(size)
        return self._ask("POST", f"volumes/{quote(volume, safe=':')}/{path}", body, limit)

    def voxels(self, volume: str, scale: int, offset: ZYX, size: ZYX, dtype: np.dtype[Any]) -> NDArray[Any]:
        """A box of voxels (z, y, x). BadGateway where the service sends another number of them."""
        body = {"geometry": _geometry(scale, offset, size), "subvolumeFormat": "RAW"}
        wanted = math.prod(size) * dtype.itemsize
        data = self._ask("POST", f"volumes/{quote(volume, safe=':')}/subvolume:binary", body, wanted + 1)
        if len(data) != wanted:
            raise BadGateway(f"{self._config.brainmaps_url} sent {len(data)} bytes of voxels, not {wanted}")
        return np.frombuffer(data, dtype).reshape(size)

    # -- requests -----------------------------------------------------------------------------------------------------

    def _ask(self, verb: str, path: str, body: Mapping[str, Any] | None, limit: int) -> bytes:
        config = self._config
        headers = {"Authorization": f"Bearer {self._access_token()}", "Content-Type": "application/json"}
        data = b"" if body is None else orjson.dumps(body)
        with volumes(config).places.taken(config.brainmaps_url):
            return fetch(verb, f"{config.brainmaps_url}/{path}", data, headers, timeout=config.timeout, limit=limit)

    def _access_token(self) -> str:
        with self._lock:
            if time.time() < self._until:
                return self._token
        key = self._read_key()
        now = int(time.time())
        claims = {"iss": key["client_email"], "scope": SCOPE, "aud": key["token_uri"], "iat": now, "exp": now + _LIFE}
        body = urlencode({"grant_type": _GRANT, "assertion": _signed(claims, key)}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        with volumes(self._config).places.taken(self._config.brainmaps_url):
            data = fetch("POST", key["token_uri"], body, headers, timeout=self._config.timeout, limit=_SMALL)
        try:
            found = orjson.loads(data)
            token, life = str(found["access_token"]), float(found.get("expires_in", _LIFE))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
            raise BadGateway("the service that gives access tokens answered something else") from None
        with self._lock:
            self._token, self._until = token, now + life - _EARLY
        return token

    def _read_key(self) -> dict[str, str]:
        try:
            key = orjson.loads(self._key.read_bytes())
            return {name: str(key[name]) for name in ("client_email", "private_key", "token_uri")}
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
            raise BadRequest(f'jwtfile: "{self._key.name}" is not the JSON key of a service account') from None


def _geometry(scale: int, offset: ZYX, size: ZYX) -> dict[str, Any]:
    return {"corner": ",".join(map(str, offset.xyz())), "size": ",".join(map(str, size.xyz())), "scale": scale}


def _signed(claims: Mapping[str, Any], key: Mapping[str, str]) -> str:
    """A JSON web token (RFC 7519), signed with RSA and SHA-256."""
    try:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError:
        raise MissingExtra(
            'this server cannot sign in at BrainMaps: install the extra "remote" (pip install "dvidcore[remote]")'
        ) from None
    try:
        private = load_pem_private_key(key["private_key"].encode(), None)
    except (ValueError, TypeError):
        private = None
    if not isinstance(private, RSAPrivateKey):
        raise BadRequest("jwtfile: its private_key is not an RSA key")
    text = b".".join(_base64(orjson.dumps(part)) for part in ({"alg": "RS256", "typ": "JWT"}, claims))
    return b".".join((text, _base64(private.sign(text, PKCS1v15(), hashes.SHA256())))).decode()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def fetch(verb: str, url: str, body: bytes, headers: Mapping[str, str], *, timeout: float, limit: int) -> bytes:
    """The body of the answer to a request, which may take ``timeout`` seconds in all. Redirects are not followed.

    Raises Refused for any status but 200, BadGateway where the connection fails or the answer has more than ``limit``
    bytes, GatewayTimeout.
    """
    parts = urlsplit(url)
    service = f"{parts.scheme}://{parts.netloc}"
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout)
    start = time.monotonic()
    # The time-out of a socket is that of each piece; a service that sends a byte now and then would never reach it.
    watch = threading.Timer(timeout, _cut, [connection])
    watch.daemon = True
    watch.start()
    try:
        connection.request(verb, parts.path + (f"?{parts.query}" if parts.query else ""), body or None, dict(headers))
        response = connection.getresponse()
        pieces, size = [], 0
        while piece := response.read(_PIECE):
            size += len(piece)
            if size > limit:
                raise BadGateway(f"{service} sent more than the {limit} bytes that were expected")
            pieces.append(piece)
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        if time.monotonic() - start >= timeout:
            raise TimeoutError
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, TimeoutError) or time.monotonic() - start >= timeout:
            raise GatewayTimeout(f"{service} did not answer within {timeout:g} seconds") from None
        raise BadGateway(f"{service}: {error or type(error).__name__}") from None
    finally:
        watch.cancel()
        connection.close()
    data = b"".join(pieces)
    if response.status != 200:
        text = " ".join(data[: 4 * LONGEST].decode("utf-8", "replace").split())[:LONGEST]
        raise Refused(f"{service} answered {response.status} {response.reason}: {text}")
    return data


def _cut(connection: http.client.HTTPConnection) -> None:
    try:
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
