"""The datatype roi: its settings and its endpoints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import orjson

from dvidcore.datatypes.arguments import flag, integer
from dvidcore.datatypes.base import DataType, Setting
from dvidcore.datatypes.call import JSON, OCTETS, Call, Reply
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.integer_rows import integer_rows
from dvidcore.datatypes.pairs import answer_list
from dvidcore.datatypes.roi import partition, region
from dvidcore.datatypes.roi.region import Region
from dvidcore.datatypes.roi.spans import sorted_spans
from dvidcore.datatypes.voxel_settings import parse_triple
from dvidcore.errors import BadRequest
from dvidcore.geometry import INT32_MAX, INT32_MIN, ZYX, check_box
from dvidcore.pool import ordered_map
from dvidcore.storage.engine import Batch
from dvidcore.storage.versioned import View

if TYPE_CHECKING:
    from dvidcore.datatypes.checks import Examination

MAX_ANSWER = 3 << 30
"""Voxels of a mask."""
PIECE = 16 << 20
"""Voxels of a mask that are made at a time."""
LISTED = 100_000
"""Spans of a list that are made into text at a time."""
MAX_BLOCK_SIDE = 1 << 16

_VOLUMES = ("0_1_2", "0,1,2", "vol")


def _block_size(value: str, name: str) -> list[int]:
    size = parse_triple(value, name)
    if min(size) < 1 or max(size) > MAX_BLOCK_SIDE:
        raise BadRequest(f'{name}: "{value[:60]}" must be 1 to {MAX_BLOCK_SIDE} along each axis')
    return size


class ROI(DataType):
    """A region of interest: a set of blocks, of which each version has a whole list of its own."""

    typename: ClassVar[str] = "roi"
    typeversion: ClassVar[str] = "0.1"
    url: ClassVar[str] = "github.com/janelia-flyem/dvid/datatype/roi"
    settings: ClassVar[tuple[Setting, ...]] = (
        Setting("BlockSize", "BlockSize", [32, 32, 32], _block_size, "x,y,z voxels of a block"),
    )

    def extended(self, view: View) -> dict[str, Any]:
        found = region.summaries(view, self.record)
        return {
            "BlockSize": self.record.settings["BlockSize"],
            "MinZ": min((s.min_z for s in found), default=INT32_MAX),
            "MaxZ": max((s.max_z for s in found), default=INT32_MIN),
        }

    def _region(self, call: Call) -> Region:
        return region.read(call.view, self.record)

    def check(self, exam: Examination) -> None:
        region.check(self.record, exam)

    # -- the list -----------------------------------------------------------------------------------------------------

    @endpoint("GET", "roi", answers=JSON)
    def get_roi(self, call: Call) -> Reply:
        """The blocks of the region as spans along X, ``[[z, y, x0, x1], …]``, sorted; x1 is included."""
        rows = self._region(call).spans.rows
        some = (rows[k : k + LISTED] for k in range(0, len(rows), LISTED))
        return answer_list(orjson.dumps(part, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1] for part in some)

    @endpoint("POST", "roi")
    def post_roi(self, call: Call) -> None:
        """Replaces the list of this version by the spans of the body, ``[[z, y, x0, x1], …]``, in any order.

        Spans may overlap. An empty list or ``null`` empties the region. A list with anything wrong in it is refused
        whole, and the region stays as it was.
        """
        value = call.body.json()
        rows = integer_rows([] if value is None else value, 4, "a JSON list of spans, each [z, y, x0, x1] of int32")
        reversed_ = np.flatnonzero(rows[:, 3] < rows[:, 2])
        if len(reversed_):
            span = rows[reversed_[0]].tolist()
            raise BadRequest(f"span {span}: x1 is less than x0")
        batch = Batch()
        region.store(batch, call.version, self.record, sorted_spans(rows))
        self.engine.write(batch, sync=self.database.options.sync)

    @endpoint("DELETE", "roi")
    def delete_roi(self, call: Call) -> None:
        """Empties the region of this version."""
        batch = Batch()
        region.store(batch, call.version, self.record, None)
        self.engine.write(batch, sync=self.database.options.sync)

    # -- questions about voxels ---------------------------------------------------------------------------------------

    @endpoint("GET", "mask/{dims:text}/{size:point}/{offset:point}", answers=OCTETS)
    def get_mask(self, call: Call, dims: str, size: ZYX, offset: ZYX) -> Reply:
        """A byte for each voxel of any box, in ZYX order: 1 inside, 0 outside. ``dims`` is 0_1_2 or vol."""
        if dims.lower() not in _VOLUMES:
            raise BadRequest(f'dims: "{dims[:40]}" is not one of {", ".join(_VOLUMES)}')
        if min(size) < 0:
            raise BadRequest(f"size: {size.xyz()} must not be negative")
        total = size.z * size.y * size.x
        if total > MAX_ANSWER:
            raise BadRequest(f"size: the mask would have {total} bytes, at most {MAX_ANSWER} are allowed")
        if total == 0:
            return Reply(b"")
        check_box(offset, size)
        found = self._region(call)

        def mask(part: tuple[ZYX, ZYX]) -> memoryview:
            at, shape = part
            out = np.empty(shape, np.uint8)
            for layer, inside in found.layers(at, shape):
                out[layer] = inside
            return out.reshape(-1).data

        if total <= PIECE:
            return Reply(mask((offset, size)))
        return Reply(ordered_map(mask, _consecutive(offset, size, PIECE), 2), length=total)

    @endpoint("POST", "ptquery", answers=JSON, writes=False)
    def post_ptquery(self, call: Call) -> list[bool]:
        """Which voxels of the body, ``[[x, y, z], …]``, are inside: a list of true and false in their order."""
        points = integer_rows(call.body.json(), 3, "a JSON list of points, each [x, y, z] of int32")
        inside: list[bool] = self._region(call).contains(points[:, ::-1]).tolist()
        return inside

    # -- boxes --------------------------------------------------------------------------------------------------------

    @endpoint(
        "GET",
        "partition",
        query=[
            replace(
                integer("batchsize", 8, "blocks along a side of a box", 1, partition.LONGEST),
                empty=True,
            ),
            flag("optimized", "true or on: boxes start at the least block, some are longer by one", ("true", "on")),
        ],
        answers=JSON,
    )
    def get_partition(self, call: Call, batchsize: int, optimized: bool) -> Reply:
        """Boxes of whole blocks that cover the region, each with the number of the region's blocks in it.

        Points are voxels and chunks are blocks, both x, y, z, the maximum included. Boxes without any block of the
        region are not listed, but count in NumTotalBlocks.
        """
        return Reply(partition.answer(self._region(call), batchsize, optimized), JSON)


def _consecutive(offset: ZYX, size: ZYX, most: int) -> Iterator[tuple[ZYX, ZYX]]:
    """(offset, size) of the pieces of a box, at most ``most`` voxels each, that follow each other in ZYX order."""
    rows, depth = most // size.x, most // (size.x * size.y)
    step = ZYX(max(depth, 1), size.y if depth else max(rows, 1), size.x if rows else most)
    for z in range(0, size.z, step.z):
        for y in range(0, size.y, step.y):
            for x in range(0, size.x, step.x):
                at = ZYX(offset.z + z, offset.y + y, offset.x + x)
                yield at, ZYX(min(step.z, size.z - z), min(step.y, size.y - y), min(step.x, size.x - x))
