"""Giving out new labels, and what an administrator may say about it.

New labels follow the repo-wide maximum, or a number that ``set-nextlabel`` chose, up to its ceiling. They are stored as
taken before they are answered, so none is given out twice, whatever happens to the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvidcore.datatypes.labels.writing import counters
from dvidcore.datatypes.labels.writing.transaction import Transaction, write
from dvidcore.errors import BadRequest
from dvidcore.geometry import UINT64_MAX

if TYPE_CHECKING:
    from dvidcore.datatypes.call import Call
    from dvidcore.datatypes.labels.engine import LabelEngine

MOST = 1 << 48
"""The largest label that ``POST maxlabel`` takes."""


def post_nextlabel(data: LabelEngine, call: Call, count: int) -> dict[str, int]:
    """Reserves ``count`` new labels: ``{"start": …, "end": …}``, both included."""
    if count == 0:
        raise BadRequest("count: at least 1 label must be asked for")

    def reserve(change: Transaction) -> dict[str, int]:
        given = change.new_labels(count, reserve=True)
        return {"start": given[0], "end": given[-1]}

    return write(data, call, reserve, labels_stay=True)


def post_maxlabel(data: LabelEngine, call: Call, label: int) -> None:
    """Raises the largest label of this version and of the repo to ``label``; a smaller one changes nothing."""
    if not 0 < label <= MOST:
        raise BadRequest(f"label: {label} is out of range, allowed is 1 to {MOST}")

    def raise_both(change: Transaction) -> None:
        if label > counters.maximum(data, change.view):
            change.raise_maximum(label)

    write(data, call, raise_both, labels_stay=True)


def set_nextlabel(data: LabelEngine, call: Call, label: int, ceiling: int | None) -> None:
    """New labels start at ``label`` + 1; ``ceiling`` is the largest from now on, 0 for none, None for that which is."""
    if not 0 < label < UINT64_MAX:
        raise BadRequest(f"label: {label} is out of range, allowed is 1 to {UINT64_MAX - 1}")

    def choose(change: Transaction) -> None:
        now = counters.counters(data, change.view.snapshot)
        limit = now.ceiling if ceiling is None else ceiling
        if limit and label > limit:
            raise BadRequest(f"label: {label} is above the ceiling, {limit}")
        change.batch.batch.put(data.rows.next, now._replace(next_label=label, ceiling=limit).pack())

    write(data, call, choose, labels_stay=True)
