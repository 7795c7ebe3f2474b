"""What an image instance says about itself: info, metadata, extents and resolution."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from dvidcore.datatypes.base import DataType, Setting
from dvidcore.datatypes.call import Body, Call, Reply
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.following import tell
from dvidcore.datatypes.imageblk import extents as ext
from dvidcore.datatypes.imageblk.change import ImageChange
from dvidcore.datatypes.imageblk.checking import check_blocks
from dvidcore.datatypes.imageblk.downres import scale_settings
from dvidcore.datatypes.imageblk.elements import Element
from dvidcore.datatypes.imageblk.extents import Extents
from dvidcore.datatypes.imageblk.scales import MAX_BODY, CoarseBlocks, Coarser
from dvidcore.datatypes.imageblk.settings import SCALES, SETTINGS, check_scales
from dvidcore.datatypes.imageblk.stored import StoredBlocks, coordinates
from dvidcore.datatypes.labels.writing.locks import Locks
from dvidcore.datatypes.turns import Turns
from dvidcore.datatypes.voxel_settings import axes, check_extents, check_first_extents, voxel_size
from dvidcore.errors import BadRequest, GuardFailed
from dvidcore.geometry import ZYX
from dvidcore.storage.engine import Batch
from dvidcore.storage.keys import TYPE_KEY_OFFSET, data_prefix, prefix_range, version_bytes
from dvidcore.storage.staged import StagedWrite
from dvidcore.storage.versioned import View

if TYPE_CHECKING:
    from dvidcore.datatypes.checks import Examination
    from dvidcore.repos import Database, InstanceRecord, Repo

BLOCKS, EXTENTS = 1, 2
"""Kinds of rows: a block under its coordinates; the extents, one row. Beside them ``scales.TILE_KIND``."""
COARSE = 4
"""The kind of the blocks of coarser scales: scale (1 byte), coordinates."""


class ImageProperties(DataType):
    """What an image instance says about itself, and how a write of it becomes visible."""

    element: ClassVar[Element]
    settings: ClassVar[tuple[Setting, ...]] = (*SETTINGS, *SCALES)

    def __init__(self, database: Database, repo: Repo, record: InstanceRecord) -> None:
        super().__init__(database, repo, record)
        self._stored: tuple[InstanceRecord, StoredBlocks, list[CoarseBlocks]] | None = None
        self._tiles: Locks[ZYX] = Locks()
        self.derives = bool(record.settings.get("MaxDownresLevel"))
        self.extents_key = data_prefix(record.id, EXTENTS)
        """What the extents' rows stand under."""
        self._turns = Turns()
        self._growing = threading.Lock()

    @classmethod
    def check_settings(cls, settings: dict[str, Any]) -> None:
        check_first_extents(settings)
        check_scales(settings)

    @property
    def stored(self) -> StoredBlocks:
        """The blocks of the instance, as its record of the moment lays them out."""
        return self._layout()[0]

    @property
    def coarse(self) -> list[CoarseBlocks]:
        """The blocks of the coarser scales, from scale 1 on."""
        return self._layout()[1]

    def stored_at(self, scale: int) -> StoredBlocks:
        """The blocks of a scale; BadRequest where the instance does not have it."""
        if not scale:
            return self.stored
        coarse = self.coarse
        if not 0 < scale <= len(coarse):
            raise BadRequest(
                f"scale: {scale} is out of range, the instance has scales 0 to {len(coarse)} (MaxDownresLevel)"
            )
        return coarse[scale - 1]

    def _layout(self) -> tuple[StoredBlocks, list[CoarseBlocks]]:
        record = self.record
        if self._stored is None or self._stored[0] is not record:
            x, y, z = record.settings["BlockSize"]
            blocks = StoredBlocks(
                data_prefix(record.id, BLOCKS),
                self.element,
                ZYX(z, y, x),
                background=record.settings["Background"],
                compression=record.compression,
                checksum=record.checksum,
            )
            coarse: list[CoarseBlocks] = []
            levels, method = scale_settings(record.settings, self.element)
            for scale in range(1, levels + 1):
                prefix = data_prefix(record.id, COARSE) + bytes((scale,))
                coarse.append(CoarseBlocks(prefix, coarse[-1] if coarse else blocks, method))
            self._stored = record, blocks, coarse
        return self._stored[1:]

    def row_name(self, prefix_key: bytes) -> str:
        if prefix_key == self.extents_key:
            return super().row_name(prefix_key)
        z, y, x = coordinates(prefix_key)
        coarse = prefix_key[TYPE_KEY_OFFSET - 1] == COARSE
        return f"block {x},{y},{z}" + (f" of scale {prefix_key[TYPE_KEY_OFFSET]}" if coarse else "")

    def check(self, exam: Examination) -> None:
        check_blocks(self, exam)

    def jpeg_level(self) -> int:
        return self.stored.block.x

    # -- what info shows ------------------------------------------------------------------------------------------

    def extents(self, view: View) -> Extents | None:
        """The extents that a version sees: its own, its parents', or those of the instance's creation."""
        found = ext.stored(view, self.extents_key)
        low = self.record.settings["MinPoint"]
        if found is None and low is not None:
            return Extents.from_xyz(low, self.record.settings["MaxPoint"])
        return found

    def extended(self, view: View) -> dict[str, Any]:
        return self._extended(self.extents(view))

    def _extended(self, extents: Extents | None) -> dict[str, Any]:
        shown = described(self.record.settings, self.element.describe(), extents)
        levels, method = scale_settings(self.record.settings, self.element)
        return {**shown, "MaxDownresLevel": levels, "DownresMethod": method} if levels else shown

    def info(self, view: View) -> dict[str, Any]:
        extended = self.extended(view)
        extents = {"MinPoint": extended["MinPoint"], "MaxPoint": extended["MaxPoint"]}
        return {"Base": self.base_info(), "Extended": extended, "Extents": extents}

    @endpoint("GET", "metadata", answers="application/vnd.dvid-nd-data+json")
    def get_metadata(self, call: Call) -> Reply:
        """The axes of the volume with their size, offset and resolution, and the instance's properties."""
        extents, s = self.extents(call.view), self.record.settings
        low, high = ([0, 0, 0], [-1, -1, -1]) if extents is None else (extents.low.xyz(), extents.high.xyz())
        body = orjson.dumps({"Axes": axes(s, low, high), "Properties": self._extended(extents)})
        return Reply(body, "application/vnd.dvid-nd-data+json")

    @endpoint("POST", "extents")
    def post_extents(self, call: Call) -> None:
        """Sets the extents of this version: ``{"MinPoint": [x, y, z], "MaxPoint": [x, y, z]}``, both inclusive.

        They may shrink. Later writes of voxels grow what was set.
        """
        low, high = check_extents(call.body.json())
        batch = Batch()
        batch.put(self.extents_key + version_bytes(call.version), Extents.from_xyz(low, high).pack())
        with self._growing:
            self.engine.write(batch, sync=self.database.options.sync)

    @endpoint("POST", "resolution")
    def post_resolution(self, call: Call) -> None:
        """Sets VoxelSize of the instance, for every version: ``[x, y, z]``, three positive numbers."""
        size = voxel_size(call.body.json(), "resolution")
        self.database.update_instance(self.repo, self.record, settings=lambda now: {**now.settings, "VoxelSize": size})

    # -- what reading and writing voxels share ----------------------------------------------------------------------

    def _check_bytes(self, voxels: int) -> int:
        """The bytes of so many voxels; BadRequest above what one answer may have."""
        total = voxels * self.element.nbytes
        most = self.database.options.max_data_request
        if total > most:
            raise BadRequest(f"size: the answer would have {total} bytes, at most {most} are allowed (maxDataRequest)")
        return total

    def _check_body(self, body: Body, voxels: int, what: str) -> None:
        wanted = voxels * self.element.nbytes
        if body.length != wanted:
            raise BadRequest(f"the body has {body.length} bytes; {what} of {self.typename} takes {wanted}")

    def _coarser(self, offset: ZYX, size: ZYX) -> Coarser | None:
        """What gathers the coarser scales of a write of whole blocks; None where the instance has none.

        BadRequest where the write is too large for that.
        """
        if not self.coarse:
            return None
        total = math.prod(size) * self.element.nbytes
        if total > MAX_BODY:
            raise BadRequest(
                f"size: the box has {total} bytes, at most {MAX_BODY} can be written at once with MaxDownresLevel"
            )
        return Coarser(self.record.id, self.coarse, offset, size)

    def commit(
        self, call: Call, staged: StagedWrite, box: Extents, *, extents: Extents | None, coarser: Coarser | None = None
    ) -> None:
        """Makes a write within a box visible, with the coarser scales, and the instance's extents grown to ``extents``.

        Instances that are synced with this one take part. Of two writes of the same blocks one is seen whole: one batch
        is atomic, and what takes several has its turn alone. Coarser scales and growth of the extents are guarded;
        locks see to it that the guard rarely fails.
        """
        change = ImageChange("mutate-voxels", self.repo.next_mutation_id(), *box)
        with self._tiles.holding(() if coarser is None else coarser.tiles()):
            while not self._committed(call, staged, change, extents, coarser=coarser):
                pass  # another process came between

    def _committed(
        self,
        call: Call,
        staged: StagedWrite,
        change: ImageChange,
        written: Extents | None,
        *,
        coarser: Coarser | None,
    ) -> bool:
        """Tries to make a write visible; False where others wrote meanwhile."""
        final = Batch()
        call.renew()
        guard = tell(self, call, change, final)
        if coarser is not None:
            guard |= coarser.put(staged, call.view, call.version, final)
        with self._turns.alone() if staged.staged else self._turns.shared():
            grows = written is not None and written.union(now := self.extents(call.renew())) != now
            with self._growing if grows else nullcontext():
                if grows and written is not None:
                    view, row = call.renew(), self.extents_key + version_bytes(call.version)
                    own = view.snapshot.get(row)
                    guard[row] = None if own is None else bytes(own)
                    final.put(row, written.union(self.extents(view)).pack())
                try:
                    staged.commit(final, sync=self.database.options.sync, guard=guard or None)
                except GuardFailed:
                    return False
        return True

    def settle(self, call: Call, order: Mapping[int, int] | None) -> None:
        """Has the first in an order win the blocks that several merged versions wrote.

        The coarser scales need no more: where they disagree they are made from the finer ones.
        """
        if order is None:
            return
        start, stop = prefix_range(self.stored.prefix)
        with StagedWrite(self.engine) as staged:
            for prefix_key, entries in call.view.conflicts(start, stop):
                winner = min((writer for writer, deleted in entries if not deleted), key=order.__getitem__)
                value = call.snapshot.get(prefix_key + version_bytes(winner))
                if value:
                    staged.put(prefix_key + version_bytes(call.version), bytes(value))
            staged.commit()


def described(
    settings: Mapping[str, Any], values: list[dict[str, str]] | None, extents: Extents | None
) -> dict[str, Any]:
    """The ``Extended`` object of an instance with the settings of images."""
    x, y, z = settings["BlockSize"]
    block = ZYX(z, y, x)
    points = (None, None) if extents is None else tuple(p.xyz() for p in extents)
    indices = (None, None) if extents is None else tuple(_block_of(p, block).xyz() for p in extents)
    return {
        "Values": values,
        "Interpolable": True,
        "BlockSize": settings["BlockSize"],
        "VoxelSize": settings["VoxelSize"],
        "VoxelUnits": settings["VoxelUnits"],
        "MinPoint": points[0],
        "MaxPoint": points[1],
        "MinIndex": indices[0],
        "MaxIndex": indices[1],
        "Background": settings["Background"],
        "GridStore": settings["GridStore"],
        "ScaleLevel": settings["ScaleLevel"],
    }


def _block_of(point: ZYX, block: ZYX) -> ZYX:
    return ZYX(*(p // b for p, b in zip(point, block, strict=True)))
