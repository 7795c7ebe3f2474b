"""Indices of bodies as they were before a mutation, for the instances that ``[mutcache.NAME]`` names.

They are written in the mutation's batch, whole, so a mutation costs what the bodies have that take part in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import lz4.block

from dvidcore.datatypes.labels.mutations.records import Record
from dvidcore.datatypes.labels.reading import indices
from dvidcore.storage.keys import prefix_end
from dvidcore.storage.versioned import VersionedBatch, View

if TYPE_CHECKING:
    from dvidcore.datatypes.call import Call
    from dvidcore.datatypes.labels.engine import LabelEngine


def kept(data: LabelEngine) -> bool:
    """Whether the instance keeps former indices."""
    names = data.database.options.former_indices
    return data.record.name in names or data.record.data_uuid in names


def put(
    data: LabelEngine, view: View, bodies: Iterable[int], told: Sequence[tuple[int, Record]], batch: VersionedBatch
) -> None:
    """Adds to the batch the indices that bodies have in the view; those that don't exist there have none.

    ``told`` are the ids and records of the mutations in the batch: each pair of a renumbering is one of its own.
    """
    (first, _), by_body = told[0], {record.get("OrigLabel"): mutation for mutation, record in reversed(told)}
    for body in bodies:
        record, columns = data.index.record(view, body), data.index.columns(view, body)
        if record is not None and columns is not None:
            message = indices.encode(body, record, columns)
            batch.put(data.rows.former(body, by_body.get(body, first)), lz4.block.compress(message))


def get(data: LabelEngine, call: Call, body: int, mutation: int) -> bytes | None:
    """A body's LabelIndex message before its latest mutation with an id up to ``mutation``; None where none is kept.

    It is looked for at the call's version and its ancestors.
    """
    keys = list(call.view.keys(data.rows.former(body), prefix_end(data.rows.former(body, mutation))))
    value = call.view.get(keys[-1]) if keys else None
    return None if value is None else lz4.block.decompress(value)
