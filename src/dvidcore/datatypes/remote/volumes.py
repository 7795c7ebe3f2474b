"""Reading volumes of object stores and web servers: one cache, and one limit of waiting, for all of them.

tensorstore does the work: formats, parallel requests, retries, and the cache of decoded chunks, which has one limit of
bytes. It is an optional package, imported when the first such volume is used.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dvidcore.config import RemoteConfig
from dvidcore.datatypes.remote import layout
from dvidcore.datatypes.remote.coded import JpegChunks
from dvidcore.datatypes.remote.layout import Layout
from dvidcore.datatypes.remote.locations import Location
from dvidcore.datatypes.remote.scale import Scale
from dvidcore.datatypes.remote.waiting import Places, answer_of
from dvidcore.errors import BadGateway, BadRequest, DvidError, MissingExtra
from dvidcore.geometry import ZYX

if TYPE_CHECKING:
    import tensorstore

OPEN = 256
"""Scales that are kept open; the one that was not used for longest is closed first."""
MAX_CHUNK = 256 << 20
"""Bytes of the largest chunk that is read: the least that is held in memory."""
DRIVERS = {"precomputed": "neuroglancer_precomputed", "zarr": "zarr", "zarr3": "zarr3", "n5": "n5"}
TYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")


@lru_cache(maxsize=16)
def volumes(config: RemoteConfig) -> Volumes:
    """What reads volumes under a configuration: shared by all instances, so that the limits hold for all together."""
    return Volumes(config)


def _tensorstore(timeout: float) -> Any:
    # Its connections have no time-out of their own, and one that hangs would hold its place for good.
    os.environ.setdefault("TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS", str(max(1, math.ceil(timeout))))
    os.environ.setdefault("TENSORSTORE_CURL_LOW_SPEED_LIMIT_BYTES", "1")
    try:
        import tensorstore
    except ImportError:
        raise MissingExtra(
            'this server cannot read volumes elsewhere: install the extra "remote" (pip install "dvidcore[remote]")'
        ) from None
    return tensorstore


class Volumes:
    """Opens volumes, and keeps them open. Safe to use from many threads."""

    def __init__(self, config: RemoteConfig) -> None:
        self.config = config
        self.places = Places(config.concurrency)
        self._open: OrderedDict[tuple[Any, ...], tuple[float, Scale]] = OrderedDict()
        self._contexts: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._base: Any = None

    def _context(self, service: str) -> Any:
        """The context of a service: the cache is everybody's, the connections are its own, lest one holds all."""
        ts = _tensorstore(self.config.timeout)
        with self._lock:
            if self._base is None:
                retries = {"max_retries": self.config.retries, "initial_delay": "100ms", "max_delay": "2s"}
                self._base = ts.Context(
                    {
                        "cache_pool": {"total_bytes_limit": self.config.cache_bytes},
                        **{f"{kind}_request_retries": retries for kind in ("http", "s3", "gcs")},
                    }
                )
            found = self._contexts.get(service)
            if found is None:
                limits = {f"{kind}_request_concurrency": {"limit": 32} for kind in ("http", "s3", "gcs")}
                found = self._contexts[service] = ts.Context(limits, self._base)
            return found

    def _wait(self, start: Any, location: Location) -> Any:
        return answer_of(start, location.service, self.places, self.config.timeout)

    def find(self, location: Location, format: str, axes: str) -> Layout:
        """The layout of the volume at a location. BadRequest where there is none that can be read; and as ``read``."""
        ts = _tensorstore(self.config.timeout)
        context = self._context(location.service)
        kvstore = self._wait(lambda: ts.KvStore.open(location.kvstore(self.config), context=context), location)

        def read(key: str) -> bytes | None:
            found = self._wait(lambda: kvstore.read(key), location)
            return bytes(found.value) if found.state == "value" else None

        return layout.find(read, format, axes)

    def scale(self, location: Location, format: str, kept: Mapping[str, Any]) -> Scale:
        """The scale of a volume that an instance's settings describe, opened unless it is open.

        ``kept`` has ``Path``, ``Index`` and ``Axes`` of a ``ScaleLayout``. Raises BadGateway or GatewayTimeout where the
        service fails, BadRequest for arrays that cannot be shown.
        """
        key = (location.url, format, kept["Path"], kept["Index"], kept["Axes"])
        now = time.monotonic()
        with self._lock:
            found = self._open.get(key)
            if found is not None and now - found[0] < self.config.recheck:
                self._open.move_to_end(key)
                return found[1]
        scale = self._opened(location, format, kept)
        with self._lock:
            self._open[key] = (now, scale)
            self._open.move_to_end(key)
            while len(self._open) > OPEN:
                self._open.popitem(last=False)
        return scale

    def _opened(self, location: Location, format: str, kept: Mapping[str, Any]) -> Scale:
        ts = _tensorstore(self.config.timeout)
        spec: dict[str, Any] = {"driver": DRIVERS[format], "recheck_cached_data": "open"}
        if format == "precomputed":
            spec |= {"kvstore": location.kvstore(self.config), "scale_index": kept["Index"]}
        else:
            spec["kvstore"] = location.kvstore(self.config, kept["Path"])
        context = self._context(location.service)
        store = self._wait(lambda: ts.open(spec, open=True, read=True, context=context), location)
        try:
            scale = self._arranged(store, kept["Axes"], location)
            if format == "precomputed":
                scale.coded = self._coded(store, scale, location, kept["Path"])
            return scale
        except DvidError:
            raise
        except (ValueError, IndexError) as error:
            raise BadGateway(f"{location.service}: the volume cannot be read: {error}") from None

    def _coded(self, store: tensorstore.TensorStore, scale: Scale, location: Location, path: str) -> JpegChunks | None:
        """The stored chunks of a precomputed scale, where they are JPEG of one channel."""
        ts = _tensorstore(self.config.timeout)
        metadata = store.spec().to_json()["scale_metadata"]
        if metadata["encoding"] != "jpeg" or scale.channels:
            return None
        spec, sharding = location.kvstore(self.config, path), metadata.get("sharding")
        if sharding is not None:
            spec = {"driver": "neuroglancer_uint64_sharded", "base": spec, "metadata": sharding}
        context = self._context(location.service)
        wait = partial(self._wait, location=location)
        kvstore = wait(lambda: ts.KvStore.open(spec, context=context))
        chunk = ZYX(*metadata["chunk_size"][::-1])
        return JpegChunks(kvstore, sharding is not None, origin=scale.origin, size=scale.size, chunk=chunk, wait=wait)

    def _arranged(self, store: tensorstore.TensorStore, axes: str, location: Location) -> Scale:
        """An array as (z, y, x) or (z, y, x, channel), whatever order it is kept in."""
        ts = _tensorstore(self.config.timeout)
        if store.dtype.name not in TYPES:
            raise BadRequest(f"URL: voxels of {store.dtype.name} cannot be shown, only {', '.join(TYPES)}")
        if store.rank != len(axes):
            raise BadRequest(f'Axes: "{axes}" names {len(axes)} axes, the volume has {store.rank}')
        chunk = [int(n or 1) for n in store.chunk_layout.read_chunk.shape or (1,) * store.rank]
        for k in range(len(axes) - 1, -1, -1):
            if axes[k] in "xyz" or (axes[k] == "c" and store.domain.shape[k] != 1):
                continue
            if store.domain.shape[k] != 1:
                raise BadRequest(f'URL: axis "{axes[k]}" of the volume has {store.domain.shape[k]} elements, not 1')
            store = store[(slice(None),) * k + (store.domain.origin[k],)]
            axes = axes[:k] + axes[k + 1 :]
            del chunk[k]
        if "z" not in axes:
            store, axes, chunk = store[ts.newaxis], "z" + axes, [1, *chunk]
        order = [axes.index(axis) for axis in ("zyxc" if "c" in axes else "zyx")]
        store, chunk = store.transpose(order), [chunk[k] for k in order]
        dtype = np.dtype(store.dtype.numpy_dtype)
        if math.prod(chunk) * dtype.itemsize > MAX_CHUNK:
            raise BadRequest(f"URL: the volume's chunks of {chunk} voxels are larger than {MAX_CHUNK} bytes")
        return Scale(store, dtype, chunk, partial(self._wait, location=location))
