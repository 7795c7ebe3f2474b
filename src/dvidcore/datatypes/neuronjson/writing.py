"""How an instance is written: one batch whatever is changed, and no writer overlooks what another has just written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from dvidcore.datatypes.neuronjson.rows import Changed, Rows, pack_u64, unpack_u64
from dvidcore.errors import GuardFailed, Unavailable
from dvidcore.mutations import log
from dvidcore.storage.engine import Batch, Value
from dvidcore.storage.keys import version_bytes
from dvidcore.storage.staged import StagedWrite
from dvidcore.storage.versioned import View

if TYPE_CHECKING:
    from dvidcore.datatypes.base import DataType
    from dvidcore.datatypes.call import Call

PATIENCE = 30.0
"""Seconds to wait for a large write of another process."""
_SOME = 1000


class Changes:
    """What one request changes, gathered for its batch."""

    def __init__(self, instance: DataType, rows: Rows, call: Call, staged: StagedWrite) -> None:
        self._rows = rows
        self._version = version_bytes(call.version)
        # A version without ancestors has nothing to hide.
        self._alone = len(call.ancestry.rank) == 1
        self._staged = staged
        self._instance, self._node = instance, call.node.id
        self._mutation = instance.repo.next_mutation_id()
        self._common = {"UUID": call.node.uuid, "Timestamp": log.timestamp()}
        if call.user:
            self._common["User"] = call.user
        self._records: list[dict[str, Any]] = []
        self.bodies: set[int] = set()
        self.logged: list[bytes] = []

    def annotation(self, body: int, value: Value | None) -> None:
        """Stores the packed annotation of a body; ``None`` deletes it."""
        self._put(self._rows.annotation(body), value)
        self.bodies.add(body)

    def schema(self, name: str, value: Value | None) -> None:
        """Stores a packed schema; ``None`` deletes it."""
        self._put(self._rows.schema(name), value)

    def _put(self, prefix_key: bytes, value: Value | None) -> None:
        row = prefix_key + self._version
        if value is not None:
            self._staged.put(row, value)
        elif self._alone:
            self._staged.delete(row)
        else:
            self._staged.put(row, b"")

    def tell(self, action: str, key: str, size: int | None = None) -> None:
        """Adds a record to the mutation log; ``size`` is that of what was posted."""
        told: dict[str, Any] = {"Action": action, "Key": key}
        if size is not None:
            told["Bytes"] = size
        self._records.append({**told, **self._common})
        if len(self._records) >= _SOME:
            self.flush()

    def flush(self) -> None:
        """Puts the records that were added into the write."""
        batch = Batch()
        encoded = log.append(batch, self._instance.record.id, self._node, self._mutation, self._records)
        if self._instance.database.options.json_log is not None:
            self.logged += encoded
        for key, value in batch.operations:
            self._staged.put(key, value or b"")
        self._records = []


class Writer:
    """Writes one instance."""

    def __init__(self, instance: DataType, rows: Rows) -> None:
        self._instance = instance
        self._rows = rows
        self._lock = Lock()

    def write(self, call: Call, change: Callable[[View, Changes], None]) -> None:
        """Writes what ``change`` makes of the newest view, all or none, and its log records.

        ``change`` is called again where another process came between. What it raises leaves everything as it was.
        """
        instance, rows = self._instance, self._rows
        until = time.monotonic() + PATIENCE
        with self._lock:
            while True:
                view = call.renew()
                found = (view.snapshot.get(row) for row in (rows.claimed, rows.generation))
                claimed, generation = (None if value is None else bytes(value) for value in found)
                if claimed != generation:
                    if time.monotonic() > until:
                        raise Unavailable("another process has been writing this instance for long; try again")
                    time.sleep(0.01)
                    continue
                with StagedWrite(instance.engine) as staged:
                    changes = Changes(instance, rows, call, staged)
                    change(view, changes)
                    changes.flush()
                    try:
                        staged.commit(
                            self._final(unpack_u64(generation) + 1, call.version, changes.bodies),
                            sync=instance.database.options.sync,
                            guard={rows.claimed: claimed},
                        )
                    except GuardFailed:
                        continue
                break
        instance.publish(call, changes.logged)

    def _final(self, generation: int, version: int, bodies: Iterable[int]) -> Batch:
        changed = Changed(generation, version, np.array(sorted(bodies), np.uint64))
        batch = Batch()
        batch.put(self._rows.claimed, pack_u64(generation))
        batch.put(self._rows.generation, pack_u64(generation))
        batch.put(self._rows.changed(generation), changed.encode())
        return batch
