"""The check of image instances: blocks unpack, lie within the extents, and coarser scales follow from the finer ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dvidcore.datatypes.families import Family, families
from dvidcore.datatypes.imageblk import extents as ext
from dvidcore.datatypes.imageblk.extents import Extents
from dvidcore.errors import StoreError
from dvidcore.geometry import ZYX
from dvidcore.pool import ordered_map, processors
from dvidcore.storage.engine import Batch
from dvidcore.storage.keys import prefix_range, version_bytes, zyx_key, zyx_of
from dvidcore.storage.versioned import KeyConflict, View

if TYPE_CHECKING:
    from dvidcore.datatypes.checks import Examination
    from dvidcore.datatypes.imageblk.properties import ImageProperties
    from dvidcore.datatypes.imageblk.scales import CoarseBlocks
    from dvidcore.datatypes.imageblk.stored import StoredBlocks
    from dvidcore.storage.engine import Value


def check_blocks(data: ImageProperties, exam: Examination) -> None:
    """Reports blocks, of all scales, that do not unpack, and coarser ones that are not what the finer ones make.

    The latter are made anew where this is to repair. Blocks beyond the extents of a version, which whole blocks that
    clients post may well be, are noted.
    """
    unread = _check_extents(data, exam)
    boxes = _read(data, exam, data.stored, "blocks")
    for scale, blocks in enumerate(data.coarse, 1):
        _read(data, exam, blocks, f"blocks of scale {scale}")
        if not blocks.compression.startswith("jpeg"):  # lossy: what the writer had is not what is stored
            _check_scale(data, exam, blocks)
    for version, box in sorted(boxes.items()):
        if version not in unread:
            _compare(data, exam, version, box)


def _read(data: ImageProperties, exam: Examination, blocks: StoredBlocks, what: str) -> dict[int, Extents]:
    """Unpacks all blocks of a scale; answers by version the box of those that it wrote."""
    boxes: dict[int, Extents] = {}

    def damage(group: tuple[bytes, list[tuple[int, Value]]]) -> tuple[bytes, list[tuple[int, str]]]:
        key, entries = group
        out = []
        for version, value in entries:
            if not len(value):
                continue
            try:
                blocks.voxels(value)
            except StoreError as e:
                out.append((version, str(e)))
            else:
                out.append((version, ""))
        return key, out

    for key, found in ordered_map(damage, exam.grouped(*prefix_range(blocks.prefix), what), 4 * processors()):
        z, y, x = zyx_of(key, len(blocks.prefix))
        low = ZYX(*(c * b for c, b in zip((z, y, x), blocks.block, strict=True)))
        for version, text in found:
            if text:
                exam.found("block", data.row_name(key), text, "a block that unpacks", version=version)
            boxes[version] = Extents.of_box(low, blocks.block).union(boxes.get(version))
    return boxes


def _check_scale(data: ImageProperties, exam: Examination, coarse: CoarseBlocks) -> None:
    """Reports and mends the blocks of a scale that are not the finer ones at half the resolution, where versions wrote."""

    def compare(family: Family) -> tuple[ZYX, list[tuple[int, bytes]]]:
        at, writers = family
        found = ((version, _expected(data, exam, coarse, at, version)) for version in writers)
        return at, [(version, expected) for version, expected in found if expected is not None]

    found = families(exam, coarse.prefix, coarse.finer.prefix)
    for at, wrong in ordered_map(compare, found, 4 * processors()):
        key = coarse.prefix + zyx_key(*at)
        for version, expected in wrong:
            what = f"the {coarse.method} of the finer scale"
            exam.found("scale", data.row_name(key), "different", what, version=version, repairable=True)
            if exam.repair:
                batch = Batch()
                batch.put(key + version_bytes(version), expected)
                data.engine.write(batch)


def _expected(data: ImageProperties, exam: Examination, coarse: CoarseBlocks, at: ZYX, version: int) -> bytes | None:
    """What a version should have stored for a coarse block, None where what it sees is right.

    Nothing can be said, so None too, of conflicts, which are made when they are read, and of damage, which is reported
    elsewhere.
    """
    node = data.repo.dag.nodes[version]
    view = View(exam.snapshot, data.database.ancestry_for(data.repo, node, data.record))
    try:
        value = view.get(coarse.prefix + zyx_key(*at))
        made = coarse.made(view, at)
        seen = coarse.empty_block() if value is None else coarse.voxels(value)
    except (KeyConflict, StoreError):
        return None
    if np.array_equal(np.frombuffer(seen, made.dtype), made.reshape(-1), equal_nan=made.dtype.kind == "f"):
        return None
    return coarse.pack(made.reshape(-1).view(np.uint8).data)


def _check_extents(data: ImageProperties, exam: Examination) -> set[int]:
    """Reports extents that cannot be read; answers the versions that see some."""
    unread: set[int] = set()
    for _, entries in exam.grouped(*prefix_range(data.extents_key), "extents"):
        for version, value in entries:
            try:
                if len(value):
                    ext.unpack(value)
            except (ValueError, TypeError, AttributeError) as e:
                exam.found("extents", "the extents", f"damaged: {e}", "a box", version=version)
                unread |= {v for v in exam.lineage.versions if v == version or data.repo.dag.is_ancestor(version, v)}
    return unread


def _compare(data: ImageProperties, exam: Examination, version: int, box: Extents) -> None:
    """Whether the extents of a version touch all blocks that it wrote."""
    node = data.repo.dag.nodes[version]
    view = View(exam.snapshot, data.database.ancestry_for(data.repo, node, data.record))
    stored, block = data.extents(view), data.stored.block
    low = [h + b - 1 for h, b in zip(box.low, block, strict=True)]
    high = [c - b + 1 for c, b in zip(box.high, block, strict=True)]
    if (
        stored is None
        or any(s > c for s, c in zip(stored.low, low, strict=True))
        or any(s < c for s, c in zip(stored.high, high, strict=True))
    ):
        text = "none" if stored is None else f"{stored.low.xyz()} to {stored.high.xyz()}"
        expected = f"around {box.low.xyz()} to {box.high.xyz()}"
        exam.found("extents", "the extents", text, expected, version=version, serious=False)
