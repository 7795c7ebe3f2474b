"""Renumbering: bodies get other ids. Their supervoxels and voxels stay as they are, and so does every scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dvidcore import labels
from dvidcore.datatypes.labels.reading import inputs
from dvidcore.datatypes.labels.rows import INDEX_ZYX_OFFSET
from dvidcore.datatypes.labels.writing.transaction import Transaction, write
from dvidcore.errors import BadRequest
from dvidcore.storage.keys import prefix_end

if TYPE_CHECKING:
    from dvidcore.datatypes.call import Call
    from dvidcore.datatypes.labels.engine import LabelEngine


_Rows = dict[bytes, bytes | memoryview]
"""Rows of an index by block."""


class _Moved(NamedTuple):
    """Where a body of the store ended."""

    body: int
    mutation: int


def renumber(data: LabelEngine, call: Call) -> None:
    """``POST renumber`` with ``[new, old, new, old, …]``, new ids first; all of it or nothing. No pairs change nothing.

    Each pair is a mutation of its own, and the next one finds what it left. Raises BadRequest, with nothing changed,
    where an old id is no body or a new one is.
    """
    listed: list[int] = inputs.labels(call.body).tolist()
    if 0 in listed:
        raise BadRequest("0 is background: it can neither be renumbered nor be a new label")
    if len(listed) % 2:
        raise BadRequest(f"the body must be pairs, [new, old, …]; it lists {len(listed)} labels, an odd number")
    if not listed:
        return
    pairs = list(zip(listed[::2], listed[1::2], strict=True))
    write(data, call, lambda change: _renumber(change, pairs), bodies=listed)


def _renumber(change: Transaction, pairs: list[tuple[int, int]]) -> None:
    stays = {body: change.record(body) is not None for pair in pairs for body in pair}
    origin = {body: body for body, there in stays.items() if there}  # whose index a body has now
    ended: dict[int, _Moved] = {}
    for new, old in pairs:
        if old not in origin:
            raise BadRequest(f"label {old} is not a body at this version, it cannot become {new}")
        if new in origin:
            raise BadRequest(f"label {new} is a body at this version, {old} cannot become it")
        origin[new] = origin.pop(old)
    named: set[int] = set()
    origin = {body: body for body, there in stays.items() if there}
    leaving = {old for _, old in pairs}
    rows = {body: _take(change, body) for body in origin if body in leaving}
    for new, old in pairs:
        mutation = change.new_mutation()
        body = origin[new] = origin.pop(old)
        ended[body] = _Moved(new, mutation)
        _map(change, rows[body], new, named)
        change.log({"Action": "renumber-complete", "NewLabel": new, "OrigLabel": old}, mutation)
    for body, moved in ended.items():
        _put(change, body, moved, rows[body])
    change.raise_maximum(max(new for new, _ in pairs))
    bodies = {body: moved.body for body, moved in ended.items() if moved.body != body}
    change.tell("renumber", bodies=bodies, mutation=mutation)


def _take(change: Transaction, body: int) -> _Rows:
    """Removes the index of a body; answers its rows by block."""
    start = change.data.rows.index(body)
    rows = {}
    for key, row in change.view.scan(start, prefix_end(start)):
        change.batch.delete(key)
        rows[key[INDEX_ZYX_OFFSET:]] = row
    change.batch.delete(change.data.rows.body(body))
    return rows


def _map(change: Transaction, rows: _Rows, new: int, named: set[int]) -> None:
    """Maps what is in the rows to ``new``, and ``new`` to 0 where nothing has mapped it, also not before."""
    label = np.array([new], np.uint64)
    if new not in named and not change.mapped().has_entry(label)[0]:
        change.map(label, np.zeros(1, np.uint64))
        named.add(new)
    supervoxels = labels.supervoxels_of(rows.values())
    named.update(supervoxels.tolist())
    change.map(supervoxels, np.full(len(supervoxels), new, np.uint64))


def _put(change: Transaction, body: int, moved: _Moved, rows: _Rows) -> None:
    """Puts the index of a body of the store under its new id. Rows stay as they are."""
    record = change.record(body)
    assert record is not None
    prefix = change.data.rows.index(moved.body)
    for zyx, row in rows.items():
        change.batch.put(prefix + zyx, row)
    change.put_body(moved.body, record.voxels, record.blocks, moved.mutation)
