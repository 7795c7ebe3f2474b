"""Merges and splits where the voxels are the bodies (labelarray, labelvol): they rewrite blocks.

Blocks of a merge, and of a split by whole blocks, get another label list; voxels are looked at only where a split's
runs divide a block, and for the coarser scales. All is checked before anything is written, and blocks, scales, index
rows, counters, log and followers are one transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dvidcore import budget, labels
from dvidcore.datatypes.call import Call, Reply
from dvidcore.datatypes.labels.index import Columns
from dvidcore.datatypes.labels.mutations.chosen import pass_over
from dvidcore.datatypes.labels.mutations.merge import bodies_of
from dvidcore.datatypes.labels.mutations.relabel_index import Moved, move
from dvidcore.datatypes.labels.mutations.rewrite import Relabelling, Rewriting
from dvidcore.datatypes.labels.mutations.runs_input import Pieces, PostedRuns, cut, memory_for, read_runs
from dvidcore.datatypes.labels.mutations.split import put_blob
from dvidcore.datatypes.labels.reading import inputs
from dvidcore.datatypes.labels.writing.generations import tiles_of
from dvidcore.datatypes.labels.writing.new_ids import NewIds
from dvidcore.datatypes.labels.writing.transaction import Transaction, write
from dvidcore.errors import BadRequest, NotFound
from dvidcore.geometry import ZYX

if TYPE_CHECKING:
    from dvidcore.datatypes.labels.engine import LabelEngine

Coords = NDArray[np.int32]
_NAMED = 100
"""Labels that a header names at most."""
_BLOCK = ZYX(1, 1, 1)
"""Runs of blocks are cut into single ones."""


def whole(coords: Coords) -> Pieces:
    """Blocks, ascending, without runs."""
    return Pieces(coords, np.empty((0, 4), np.int32), np.zeros(len(coords) + 1, np.int64))


def tiles(data: LabelEngine, coords: Coords) -> set[ZYX]:
    """The tiles of blocks."""
    return tiles_of(data, map(ZYX._make, coords.tolist()))


def rewrite(change: Transaction, pieces: Pieces, renaming: Relabelling, strict: str = "") -> Rewriting:
    """Not run yet. ``strict``: whose voxels those of the runs must be."""
    return Rewriting(change, pieces, renaming, strict=bool(strict), whose=strict, keep_all=True)


def _all(label: int) -> NDArray[np.uint64]:
    return np.array([label], np.uint64)


# -- merge -------------------------------------------------------------------------------------------------------------


def merge(data: LabelEngine, call: Call) -> Reply:
    """``POST merge`` with ``[target, a, b, …]``: an empty answer; its header ``Missing-Labels`` names what was none.

    The target need not exist. Raises BadRequest for what is no merge, NotFound where none of the others exists.
    """
    target, merged = bodies_of(inputs.labels(call.body).tolist())
    known = [columns for body in merged if (columns := data.index.columns(call.view, body)) is not None]

    def change(change: Transaction) -> list[int]:
        return _merge(change, target, merged)

    of_blocks = set().union(*(tiles(data, columns.blocks()) for columns in known))
    missing = write(data, call, change, bodies=[target, *merged], tiles=of_blocks)
    return Reply(headers={"Missing-Labels": ",".join(map(str, missing[:_NAMED]))} if missing else {})


def _merge(change: Transaction, target: int, merged: list[int]) -> list[int]:
    """Merges what exists; answers what does not."""
    there = [(body, columns) for body in merged if (columns := change.columns(body)) is not None]
    if not there:
        raise NotFound(f"none of the labels {merged[:_NAMED]} exists at this version; nothing was merged")
    bodies = [body for body, _ in there]
    old = np.array(bodies, np.uint64)
    renaming = Relabelling(old, new := np.full(len(old), target, np.uint64), new)
    pieces = whole(np.unique(np.concatenate([columns.blocks() for _, columns in there]), axis=0))
    rewriting = rewrite(change, pieces, renaming)
    rewriting.run(change.data.scales > 0)
    move(change, [Moved(body, columns.coords, columns.counts.astype(np.int64)) for body, columns in there], target)
    if change.record(target) is None:
        change.at_commit(lambda now, batch: pass_over(change.data, now.view, batch.batch, target, counted=False))
    change.log({"Action": "merge-complete", "Target": target, "Labels": bodies})
    change.tell("merge", bodies=dict.fromkeys(bodies, target), fresh=rewriting.fresh, renamed=rewriting.renamed)
    return [body for body in merged if body not in bodies]


# -- split -------------------------------------------------------------------------------------------------------------


def split(data: LabelEngine, call: Call, label: int, given: int | None, *, strict: bool) -> dict[str, int]:
    """``POST split``: the voxels of the body become a new label, or ``given``. Answers ``{"label": n}``.

    If ``strict``, all of the voxels must be the label's, each listed once, and ``given`` may exist, so that more is
    split off to it; else other voxels are left alone, and it must not. Raises BadRequest, with no label used up.
    """
    with budget.work.borrow(memory_for(call.body)):
        posted = read_runs(call.body, described=False)
        columns = _need(data.index.columns(call.view, label), label)

        def change(change: Transaction) -> dict[str, int]:
            return _split(change, label, posted, given, strict)

        return write(data, call, change, bodies=_bodies(label, given), tiles=tiles(data, columns.blocks()))


def _split(change: Transaction, label: int, posted: PostedRuns, given: int | None, strict: bool) -> dict[str, int]:
    columns = _need(change.columns(label), label)
    whose = f"label {label}" if strict else ""
    if strict and posted.voxels > (size := int(columns.counts.sum(dtype=np.uint64))):
        raise BadRequest(f"the body lists {posted.voxels} voxels and label {label} has {size}")
    runs = posted if strict else _joined(posted)
    pieces, outside = cut(runs, columns.blocks(), change.data.block)
    if strict and len(outside):
        raise BadRequest(f"run {outside[0].tolist()} (x, y, z, length) is not within label {label}")
    pieces = _touched(pieces)
    new = _new_label(change, label, given, joins=strict)
    renaming = Relabelling(_all(label), _all(new), _all(label))
    rewriting = rewrite(change, pieces, renaming, whose)
    counted = rewriting.run(change.data.scales > 0)
    met = counted.inside > 0
    if not met.any():
        raise BadRequest(f"the runs meet no voxel of label {label}")
    moved = Moved(label, pieces.coords[counted.block[met]], counted.inside[met].astype(np.int64))
    return _finish(change, "split", moved, posted, rewriting)


def split_coarse(data: LabelEngine, call: Call, label: int, given: int | None, *, joins: bool) -> dict[str, int]:
    """``POST split-coarse``: the label's voxels in the blocks of the body, each of which must have some, as ``split``.

    ``joins``: whether ``given`` may exist.
    """
    with budget.work.borrow(memory_for(call.body)):
        posted = read_runs(call.body, described=False)
        columns = _need(data.index.columns(call.view, label), label)

        def change(change: Transaction) -> dict[str, int]:
            return _split_coarse(change, label, posted, given, joins)

        return write(data, call, change, bodies=_bodies(label, given), tiles=tiles(data, columns.blocks()))


def _split_coarse(
    change: Transaction, label: int, posted: PostedRuns, given: int | None, joins: bool
) -> dict[str, int]:
    columns = _need(change.columns(label), label)
    if posted.voxels > len(columns.coords):
        raise BadRequest(f"the body lists {posted.voxels} blocks and label {label} is in {len(columns.coords)}")
    pieces, outside = cut(posted, columns.coords, _BLOCK)
    if len(outside):
        raise BadRequest(f"run {outside[0].tolist()} (x, y, z, length) has a block without voxels of label {label}")
    listed = pieces.touched()
    if posted.voxels != int(listed.sum()):
        raise BadRequest(f"the body lists {posted.voxels - int(listed.sum())} blocks more than once")
    some = whole(columns.coords[listed])
    new = _new_label(change, label, given, joins)
    renaming = Relabelling(_all(label), _all(new), _all(new))
    rewriting = rewrite(change, some, renaming)
    rewriting.run(change.data.scales > 0)
    moved = Moved(label, some.coords, columns.counts[listed].astype(np.int64))
    return _finish(change, "splitcoarse", moved, posted, rewriting)


def _finish(change: Transaction, action: str, moved: Moved, posted: PostedRuns, rewriting: Rewriting) -> dict[str, int]:
    """The index, the log and the followers of a split whose blocks are written."""
    renamed = rewriting.renamed
    new = int(renamed.change.inside[0])
    move(change, [moved], new)
    reference = put_blob(change, posted)
    change.log({"Action": f"{action}-complete", "Target": moved.body, "NewLabel": new, "Split": reference})
    change.tell(
        action, blocks=moved.coords.astype(np.int64), losing=(moved.body,), fresh=rewriting.fresh, renamed=renamed
    )
    return {"label": new}


def _bodies(label: int, given: int | None) -> list[int]:
    return [label] if given is None else [label, given]


def _need(columns: Columns | None, label: int) -> Columns:
    if columns is None:
        raise BadRequest(f"there is no label {label} at this version")
    return columns


def _joined(posted: PostedRuns) -> PostedRuns:
    """Each voxel once."""
    try:
        runs = labels.join(posted.runs)
    except ValueError as e:
        raise BadRequest(f"the sparse volume is malformed: {e}") from None
    return PostedRuns(runs, labels.voxels(runs))


def _touched(pieces: Pieces) -> Pieces:
    """Without the blocks that no run meets."""
    met = pieces.touched()
    return Pieces(pieces.coords[met], pieces.runs, np.append(pieces.starts[:-1][met], pieces.starts[-1:]))


def _new_label(change: Transaction, label: int, given: int | None, joins: bool) -> int:
    if given is None:
        return NewIds(change).choose()
    if given == label:
        raise BadRequest(f"splitlabel: {given} is the label that is split")
    if joins:
        change.at_commit(lambda now, batch: pass_over(change.data, now.view, batch.batch, given, counted=True))
        return given
    if change.record(given) is not None:
        raise BadRequest(f"splitlabel: {given} exists already")
    change.raise_maximum(given)
    return given
