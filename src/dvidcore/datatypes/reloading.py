"""Reloads: an instance computes what it derives anew, at one version, in the background.

A row says which reload is under way, so one that a crash interrupts is begun again when the instance is next used. The
work is many small writes, each of which leaves the instance right, so it may be done again from the start, beside
another process too, and readers see at any time what was before, or what is right.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from dvidcore.datatypes.call import Call
from dvidcore.errors import DvidError
from dvidcore.mutations import log as mutation_log
from dvidcore.storage.engine import Batch, Snapshot
from dvidcore.storage.keys import prefix_range, version_bytes, version_of

if TYPE_CHECKING:
    from dvidcore.datatypes.base import DataType

log = logging.getLogger(__name__)

Work = Callable[[Call, threading.Event], bool]
"""Reloads at the call's version; answers False where it stopped before the end, because the event was set."""


class Reloads:
    """The reloads of one instance."""

    def __init__(self, data: DataType, prefix: bytes, work: Work) -> None:
        """``prefix``: what the keys of the rows start with, a version follows."""
        self._data = data
        self._prefix = prefix
        self._work = work

    def key(self, version: int) -> bytes:
        """The row that tells of a version's reload; whoever writes it does so in a batch of his own."""
        return self._prefix + version_bytes(version)

    @property
    def started(self) -> bytes:
        """The value of a row when a reload begins."""
        return orjson.dumps({"State": "running", "Started": mutation_log.timestamp()})

    def state(self, snapshot: Snapshot, version: int) -> dict[str, Any] | None:
        """What ``info`` says of the reload of a version; None where none is under way and the last one succeeded."""
        value = snapshot.get(self.key(version))
        return None if value is None else orjson.loads(value)

    def running(self, snapshot: Snapshot, version: int) -> bool:
        state = self.state(snapshot, version)
        return state is not None and state["State"] == "running"

    def start(self, version: int) -> None:
        """Begins with the work of a reload whose row is written."""
        self._data.database.jobs.start(
            f"reload of instance {self._data.record.id} at version {version}", lambda stop: self._run(version, stop)
        )

    def wait(self, version: int, timeout: float | None = None) -> bool:
        """Waits until this process is not working on a version's reload; False where that takes too long."""
        return self._data.database.jobs.wait(f"reload of instance {self._data.record.id} at version {version}", timeout)

    def resume(self) -> None:
        """Begins again with what an earlier process has not finished."""
        if self._data.database.read_only:
            return
        for key, value in self._data.engine.scan(*prefix_range(self._prefix)):
            if orjson.loads(bytes(value))["State"] == "running":
                self.start(version_of(key))

    def _run(self, version: int, stop: threading.Event) -> None:
        data = self._data
        node = data.repo.dag.nodes.get(version)
        done = Batch()
        if node is not None:
            call = Call(data.engine, node, data.database.ancestry_for(data.repo, node, data.record))
            try:
                if not self._work(call, stop):
                    return
            except Exception as e:  # whatever it is: changes must not be refused for ever
                log.exception('reload of "%s" at version %s', data.record.name, node.uuid)
                said = str(e) if isinstance(e, DvidError) else "internal error of the server; its log says more"
                failed = {"State": "failed", "Ended": mutation_log.timestamp(), "Error": said}
                done.put(self.key(version), orjson.dumps(failed))
            finally:
                call.close()
        if not done:
            done.delete(self.key(version))
        data.engine.write(done)
