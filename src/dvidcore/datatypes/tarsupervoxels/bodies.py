"""The supervoxels of bodies, as the labelmap that an instance is synced with has them at a version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dvidcore.datatypes.labels.index import BodyIndex
from dvidcore.datatypes.labels.rows import Rows
from dvidcore.errors import BadRequest, Conflict
from dvidcore.storage.versioned import KeyConflict, View

if TYPE_CHECKING:
    from dvidcore.datatypes.base import DataType
    from dvidcore.datatypes.call import Call
    from dvidcore.repos import InstanceRecord


def supervoxels(data: DataType, call: Call, body: int) -> NDArray[np.uint64]:
    """The supervoxels of a body at the version of the request, ascending: uint64 (n,).

    Raises BadRequest where ``data`` is not synced with one labelmap or the body does not exist, Conflict where merged
    versions each changed it.
    """
    record = _followed(data)
    engine = data.database.engine_of(record)
    ancestry = data.database.ancestry_for(data.repo, call.node, record)
    index = BodyIndex(Rows(record.id))
    with engine.snapshot() as snapshot:
        view = View(snapshot, ancestry)
        try:
            exists = index.record(view, body) is not None
            found = index.read(view, body).supervoxels if exists else np.empty(0, np.uint64)
        except KeyConflict:
            raise Conflict(
                f'body {body} of "{record.name}" was changed in several of the versions that were merged'
            ) from None
    if not exists:
        raise BadRequest(f'there is no body {body} in "{record.name}" at version {call.node.uuid}')
    return np.unique(found)


def _followed(data: DataType) -> InstanceRecord:
    name = data.record.name
    found = [record for uuid in data.record.syncs if (record := data.repo.by_data_uuid.get(uuid)) is not None]
    if not found:
        raise BadRequest(f'"{name}" is not synced with a labelmap; POST sync {{"sync": "NAME"}} first')
    if len(found) > 1:
        names = ", ".join(record.name for record in found)
        raise BadRequest(f'"{name}" is synced with {names}; POST sync?replace=true with the one that has the bodies')
    if not found[0].settings["IndexedLabels"]:
        raise BadRequest(f'"{found[0].name}" has no label index (IndexedLabels=false), which bodies need')
    return found[0]
