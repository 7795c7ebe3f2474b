"""A load: boxes of a source into a target, several at a time, each noted once it is stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvidcore.errors import BadRequest
from dvidcore.geometry import ZYX
from dvidcore.loading.parallel import Workers
from dvidcore.loading.plan import Box, Plan
from dvidcore.loading.progress import Progress
from dvidcore.loading.sources import Source
from dvidcore.loading.targets import Target
from dvidcore.local.edges import Read
from dvidcore.local.volume import fitting

BOX_BYTES = 8 << 20
"""Of voxels that are written at a time: large enough that syncs to the disk cost little, small for memory."""
_OPAQUE = 255
_ORIGIN = ZYX(0, 0, 0)


@dataclass(frozen=True)
class Job:
    """What is loaded where: the box of ``size`` at ``start`` in the source comes to ``offset`` in the target."""

    source: Source
    target: Target
    offset: ZYX
    start: ZYX = _ORIGIN
    size: ZYX | None = None
    """All that follows ``start``, where it is not given."""
    box_bytes: int = BOX_BYTES

    @cached_property
    def plan(self) -> Plan:
        """The boxes. Raises ``BadRequest`` where the box is not in the source or the target has no place for it."""
        shape, start = self.source.shape, self.start
        size = self.size or ZYX(*(n - s for n, s in zip(shape, start, strict=True)))
        if any(s < 0 or n < 1 or s + n > m for s, n, m in zip(start, size, shape, strict=True)):
            raise BadRequest(
                f"the box {start.xyz()} + {size.xyz()} is not inside the {shape.xyz()} voxels that there are"
            )
        voxel = self.target.dtype.itemsize * self.target.channels
        return Plan.of(self.offset, size, self.target.block, max(1, self.box_bytes // voxel))

    def describe(self) -> dict[str, Any]:
        """What tells this load from all others."""
        return {
            "target": self.target.identity,
            "source": self.source.identity,
            "start": self.start,
            "offset": self.plan.low,
            "size": self.plan.size,
            "step": self.plan.step,
        }

    def state_file(self, folder: Path) -> Path:
        """The file that keeps the progress, where no other is wanted."""
        digest = hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode()).hexdigest()
        return folder / f"dvidcore-load-{digest[:12]}.state"


def load(job: Job, progress: Progress, workers: Workers, stored: Callable[[Box], None]) -> None:
    """Stores all boxes that are not, several at a time, and calls ``stored`` (in this thread) after each.

    A layer of blocks is read at once where the source is made of sections. After an exception, or the death of the
    process, the same job goes on with the boxes that are left: ``progress`` knows them. Raises what the target raises,
    and ``BadRequest`` for voxels that it has no type for.
    """

    def write(read: Read, box: Box) -> Box:
        voxels = read(_source_point(job, box.low), box.size)
        job.target.write(box.low, adapted(voxels, job.target.dtype, job.target.channels))
        return box

    for layer in job.plan.layers():
        left = [box for box in layer if box.number not in progress.done]
        if not left:
            continue
        low, size = _around(left)
        with job.source.layer(_source_point(job, low), size, workers) as read:
            for box in workers.each(partial(write, read), left):
                progress.add(box.number)
                stored(box)


def _source_point(job: Job, point: ZYX) -> ZYX:
    return ZYX(*(p - o + s for p, o, s in zip(point, job.offset, job.start, strict=True)))


def _around(boxes: list[Box]) -> tuple[ZYX, ZYX]:
    """(lowest voxel, size) of the box around some."""
    low = ZYX(*(min(box.low[axis] for box in boxes) for axis in range(3)))
    high = [max(box.low[axis] + box.size[axis] for box in boxes) for axis in range(3)]
    return low, ZYX(*(h - a for h, a in zip(high, low, strict=True)))


def adapted(voxels: NDArray[Any], dtype: np.dtype[Any], channels: int) -> NDArray[Any]:
    """Voxels as the target has them, none changed: wider numbers, gray images that are stored as colours, opaque ones.

    Raises ``BadRequest`` where that cannot be.
    """
    given = voxels.shape[3] if voxels.ndim == 4 else 1
    if given == 4 and channels == 1 and (voxels[..., 3] == _OPAQUE).all():
        voxels, given = voxels[..., :3], 3
    if given == 3 and channels == 1:
        first = voxels[..., 0]
        if (voxels[..., 1] == first).all() and (voxels[..., 2] == first).all():
            voxels, given = first, 1
    if given == 3 and channels == 4:
        opaque = np.full((*voxels.shape[:3], 1), _OPAQUE, voxels.dtype)
        voxels, given = np.concatenate((voxels, opaque), axis=3), 4
    if given != channels:
        raise BadRequest(f"the images have {given} colours, the instance has {channels} value(s) for each voxel")
    return fitting(voxels, dtype)
