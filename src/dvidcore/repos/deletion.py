"""Deleting the data of instances in the background.

The batch that takes an instance out of the metadata leaves a record that its data is to be deleted. The record goes when
the data is gone, so a deletion that a crash interrupts is finished after the next start. Instance ids are never given
twice, hence nothing new can come to lie in a range that is being deleted.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

import orjson

from dvidcore.errors import StoreError
from dvidcore.repos import records
from dvidcore.storage.engine import Batch, Engine
from dvidcore.storage.keys import instance_range, log_range

log = logging.getLogger(__name__)

_CHUNK = 10_000
"""Keys that are deleted by one write."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """An instance whose data is to go; name and DataUUID are for people who read the record."""

    instance_id: int
    store: str
    name: str
    data_uuid: str

    @property
    def key(self) -> bytes:
        return records.row_key(records.DELETION, self.instance_id)

    def encode(self) -> bytes:
        return orjson.dumps({"store": self.store, "name": self.name, "data_uuid": self.data_uuid})

    @classmethod
    def decode(cls, instance_id: int, value: bytes | memoryview) -> Deletion:
        return cls(instance_id, **orjson.loads(bytes(value)))


class Deleter:
    """Works off deletions, one after the other, in a thread that lives as long as there are any."""

    def __init__(self, stores: Mapping[str, Engine], metadata: Engine) -> None:
        self._stores = stores
        self._metadata = metadata
        self._pending: dict[int, Deletion] = {}
        self._left = 0  # given up until the next start
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, deletions: Iterable[Deletion]) -> None:
        """Begins with deletions whose records are stored. Those of a store that is not configured wait for it."""
        with self._changed:
            for deletion in deletions:
                if deletion.store in self._stores:
                    self._pending[deletion.instance_id] = deletion
                else:
                    log.warning('deleted instance "%s": store "%s" is not configured', deletion.name, deletion.store)
            if self._pending and self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._run, name="deletions", daemon=True)
                self._thread.start()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until nothing is under way, or for ``timeout`` seconds; answers whether all data is gone."""
        with self._changed:
            self._changed.wait_for(lambda: self._thread is None, timeout)
            return not self._pending and not self._left

    def close(self) -> None:
        """Stops after the current write. What is left goes on after the next start."""
        self._closed.set()
        with self._changed:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._pending or self._closed.is_set():
                    self._thread = None
                    self._changed.notify_all()
                    return
                deletion = next(iter(self._pending.values()))
            try:
                finished = self._delete(deletion)
            except StoreError as e:
                log.error('deleted instance "%s": %s; to be continued after a restart', deletion.name, e)
                finished = False
            with self._changed:
                del self._pending[deletion.instance_id]
                self._left += not finished

    def _delete(self, deletion: Deletion) -> bool:
        engine = self._stores[deletion.store]
        for start, stop in (instance_range(deletion.instance_id), log_range(deletion.instance_id)):
            while True:
                if self._closed.is_set():
                    return False
                keys = list(islice(engine.scan(start, stop, keys_only=True), _CHUNK))
                if not keys:
                    break
                batch = Batch()
                for key in keys:
                    batch.delete(key)
                # Synced, because the record may be in another store: it must not go while keys could come back.
                engine.write(batch)
                start = keys[-1] + b"\x00"
        done = Batch()
        done.delete(deletion.key)
        self._metadata.write(done)
        log.info('the data of deleted instance "%s" (%s) is gone', deletion.name, deletion.data_uuid)
        return True
