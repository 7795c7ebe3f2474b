"""An ROI at a version, in voxels: what masks and point filters of every type ask.

``read`` finds the spans of a version. Two rows hold them: a short one with the digest of the spans, and the spans. So
what is kept in memory is kept under its content: it is never out of date, whichever process wrote last, and versions
that share a list share its index.
"""

from __future__ import annotations

import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvidcore import codecs
from dvidcore.datatypes.roi.spans import Spans, sorted_spans
from dvidcore.errors import BadRequest, Conflict, StoreError
from dvidcore.geometry import ZYX, BlockBox
from dvidcore.storage.engine import Batch
from dvidcore.storage.keys import data_prefix, kind_range, version_bytes, version_of
from dvidcore.storage.versioned import KeyConflict, VersionedBatch, View

if TYPE_CHECKING:
    from dvidcore.datatypes.base import DataType
    from dvidcore.datatypes.call import Call
    from dvidcore.datatypes.checks import Examination
    from dvidcore.repos import InstanceRecord

SUMMARY, SPANS = 1, 2
"""Kinds of rows, one of each for a version that changed the ROI."""

KEPT = 128 << 20
"""Bytes of spans and their indices that are kept in memory."""

_SUMMARY = struct.Struct("<16sii")


class Summary(NamedTuple):
    """What is known of an ROI without its spans."""

    digest: bytes
    min_z: int
    max_z: int


# -- in voxels ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Region:
    """A set of blocks of ``block`` (z, y, x) voxels."""

    spans: Spans
    block: ZYX

    def at_scale(self, scale: int) -> Region:
        """The same region in voxels of a coarser scale, which are twice as long at each. BadRequest where its blocks
        cannot be cut that often."""
        if any(n % (1 << scale) for n in self.block):
            raise BadRequest(f"roi: blocks of {self.block.xyz()} voxels have no whole voxels at scale {scale}")
        return Region(self.spans, ZYX(*(n >> scale for n in self.block)))

    def contains(self, voxels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each voxel is inside; ``voxels`` is int64 (n, 3), columns z, y, x."""
        return self.spans.contains(voxels // np.array(self.block, np.int64))

    def layers(self, offset: ZYX, size: tuple[int, ...]) -> Iterator[tuple[slice, NDArray[np.bool_]]]:
        """A voxel box, layer by layer: (where along z in the box, which columns of voxels are inside: bool (y, x)).

        A layer is as thick as blocks are, so all its voxels with the same y and x are inside or outside together.
        """
        box = BlockBox.covering(offset, size, self.block)
        inside = self.spans.inside(box)
        y, x = ((np.arange(offset[k], offset[k] + size[k]) // self.block[k]) - box.low[k] for k in (1, 2))
        for k in range(box.shape.z):
            start = (box.low.z + k) * self.block.z - offset.z
            columns = inside[k].take(x, axis=1).take(y, axis=0)
            yield slice(max(start, 0), min(start + self.block.z, size[0])), columns

    def outside(self, offset: ZYX, volume: NDArray[Any]) -> Iterator[tuple[NDArray[Any], NDArray[np.bool_]]]:
        """The layers of a volume (z, y, x[, channel]) at ``offset`` that have voxels outside, and where these are.

        The second is made for ``where=`` of numpy: it fits the first by broadcasting.
        """
        for layer, inside in self.layers(offset, volume.shape[:3]):
            if not inside.all():
                yield volume[layer], ~inside.reshape(inside.shape + (1,) * (volume.ndim - 3))

    def blank(self, offset: ZYX, volume: NDArray[Any], value: int = 0) -> None:
        """Sets the voxels outside to a value."""
        for layer, outside in self.outside(offset, volume):
            np.copyto(layer, value, where=outside, casting="unsafe")

    def blocks(self, offset: ZYX, size: tuple[int, ...], block: ZYX) -> NDArray[np.bool_]:
        """Which blocks of a voxel box of whole blocks are inside: bool (z, y, x). For writes, which take whole blocks.

        Raises BadRequest unless blocks are as large in the ROI as in the data.
        """
        if self.block != block:
            raise BadRequest(
                f"roi: its blocks are of {self.block.xyz()} voxels, those that are written of {block.xyz()}; "
                "they must be the same"
            )
        return self.spans.inside(BlockBox.covering(offset, size, block))


# -- in the store ------------------------------------------------------------------------------------------------------


class _Kept:
    """Spans by digest, the ones least recently asked for dropped first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._spans: OrderedDict[bytes, Spans] = OrderedDict()
        self._nbytes = 0

    def get(self, digest: bytes) -> Spans | None:
        with self._lock:
            found = self._spans.get(digest)
            if found is not None:
                self._spans.move_to_end(digest)
            return found

    def put(self, digest: bytes, spans: Spans) -> None:
        with self._lock:
            if digest in self._spans:
                return
            self._spans[digest] = spans
            self._nbytes += spans.nbytes
            while self._nbytes > self._limit and len(self._spans) > 1:
                _, oldest = self._spans.popitem(last=False)
                self._nbytes -= oldest.nbytes


_kept = _Kept(KEPT)


def named(data: DataType, call: Call, name: str) -> Region:
    """The region that another instance's request names: an ROI of the same repo, at the version of the request.

    Raises BadRequest where there is no ROI of the name, Conflict where merged versions each changed it.
    """
    record = data.repo.instances.get(name)
    if record is None or record.typename != "roi":
        raise BadRequest(f'roi: there is no roi instance "{name[:60]}" in this repo')
    ancestry = data.database.ancestry_for(data.repo, call.node, record)
    engine = data.database.engine_of(record)
    if engine is call.engine:
        return read(View(call.snapshot, ancestry), record)
    with engine.snapshot() as snapshot:
        return read(View(snapshot, ancestry), record)


def read(view: View, record: InstanceRecord) -> Region:
    """The region of an ROI's record as a view shows it, an empty one where nothing was stored."""
    x, y, z = record.settings["BlockSize"]
    return Region(_spans(view, record), ZYX(z, y, x))


def _spans(view: View, record: InstanceRecord) -> Spans:
    try:
        value = view.get(data_prefix(record.id, SUMMARY))
        if value is None:
            return sorted_spans(np.empty((0, 4), np.int64))
        digest = _unpack_summary(value).digest
        spans = _kept.get(digest)
        if spans is not None:
            return spans
        stored = view.get(data_prefix(record.id, SPANS))
    except KeyConflict as e:
        raise Conflict(
            f'roi "{record.name}" was changed in several of the versions that were merged; POST it again'
        ) from e
    if stored is None:
        raise StoreError(f'the spans of roi "{record.name}" are missing')
    spans = Spans.unpack(codecs.unpack(stored))
    _kept.put(digest, spans)
    return spans


def summaries(view: View, record: InstanceRecord) -> list[Summary]:
    """What a version sees of an ROI: one, none before any write, several where merged versions each changed it."""
    prefix_key = data_prefix(record.id, SUMMARY)
    try:
        values = [view.get(prefix_key)]
    except KeyConflict as conflict:
        values = view.snapshot.get_many([prefix_key + version_bytes(version) for version in conflict.writers])
    return [_unpack_summary(value) for value in values if value]


def _unpack_summary(value: bytes | memoryview) -> Summary:
    if len(value) != _SUMMARY.size:
        raise StoreError("the stored summary of an ROI is damaged")
    return Summary(*_SUMMARY.unpack(value))


def _pack_summary(packed: bytes | memoryview, spans: Spans) -> bytes:
    return _SUMMARY.pack(blake2b(packed, digest_size=16).digest(), *spans.z_range)


def store(batch: Batch, version: int, record: InstanceRecord, spans: Spans | None) -> None:
    """Adds to a batch what makes ``spans`` the ROI of a version and its descendants; None hides the ancestors' list."""
    writer = VersionedBatch(batch, version)
    summary, rows = (data_prefix(record.id, kind) for kind in (SUMMARY, SPANS))
    if spans is None:
        writer.delete(summary)
        writer.delete(rows)
        return
    packed = spans.pack()
    described = _pack_summary(packed, spans)
    _kept.put(_unpack_summary(described).digest, spans)
    writer.put(summary, described)
    writer.put(rows, codecs.pack(packed, record.compression, record.checksum))


def check(record: InstanceRecord, exam: Examination) -> None:
    """Reports spans that do not unpack, and summaries that are not those of their spans, and mends the summaries."""
    summaries = {
        version: bytes(value)
        for _, entries in exam.grouped(*kind_range(record.id, SUMMARY), "summaries")
        for version, value in entries
    }
    for key, value in exam.rows(*kind_range(record.id, SPANS), "spans"):
        version = version_of(key)
        summary = summaries.pop(version, b"")
        try:
            packed = codecs.unpack(value) if len(value) else b""
            expected = _pack_summary(packed, Spans.unpack(packed)) if len(value) else b""
        except StoreError as e:
            exam.found("spans", "the spans", e, "spans that unpack", version=version)
            continue
        if summary != expected:
            exam.found("summary", "the summary", summary.hex(), expected.hex(), version=version, repairable=True)
            _put_summary(record, exam, version, expected)
    for version, summary in summaries.items():
        exam.found("summary", "the summary", f"{summary.hex()} without spans", "none", version=version, repairable=True)
        _put_summary(record, exam, version, None)


def _put_summary(record: InstanceRecord, exam: Examination, version: int, summary: bytes | None) -> None:
    """None removes the row."""
    if exam.repair:
        batch = Batch()
        key = data_prefix(record.id, SUMMARY) + version_bytes(version)
        if summary is None:
            batch.delete(key)
        else:
            batch.put(key, summary)
        exam.data.engine.write(batch)
