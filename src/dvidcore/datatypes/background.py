"""Work of one instance that goes on after its request was answered, and how far it is.

What is known of it is a row of the instance under version 0, which no version has, so that every process can tell, and
a later one as well: a task whose process died is ``interrupted``. It is then begun anew by whoever wants it done.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from dvidcore.errors import Conflict, DvidError, GuardFailed
from dvidcore.storage.engine import Batch
from dvidcore.storage.keys import data_prefix, version_bytes

if TYPE_CHECKING:
    from dvidcore.datatypes.base import DataType

log = logging.getLogger(__name__)

_WRITTEN_EVERY = 1.0
"""Seconds between two writes of the progress."""
_SILENT = 60.0
"""Seconds without one after which a task of another process counts as dead."""


class Stopped(Exception):
    """The server is told to stop."""


class Progress:
    """How far a task is; the task calls ``advance`` after each step, at least every few seconds."""

    def __init__(self, task: Task, known: dict[str, Any], stop: threading.Event) -> None:
        self._task = task
        self._known = known
        self._stop = stop
        self._written = time.monotonic()

    def advance(self, steps: int = 1) -> None:
        """So many more steps are done. Raises Stopped where the task should end."""
        self._known["Done"] += steps
        if self._stop.is_set():
            raise Stopped
        if time.monotonic() - self._written >= _WRITTEN_EVERY:
            self._task.write(self._known, sync=False)
            self._written = time.monotonic()


class Task:
    """A kind of work that an instance has done at most once at a time."""

    def __init__(self, data: DataType, what: str, kind: int) -> None:
        """``what``: a word for people, ``kind``: of the row that tells of it."""
        self._data = data
        self._what = what
        self._key = data_prefix(data.record.id, kind) + version_bytes(0)
        self._name = f"{what} of instance {data.record.id}"
        self._mine = False
        """Whether it is this object that has it running."""
        self._starting = threading.Lock()

    def known(self) -> dict[str, Any]:
        """``{"State": …, "Done": steps, "Total": steps, …}`` of the last time; only the State ``none`` without one.

        States are ``running``, ``done``, ``failed`` (with an ``Error``) and ``interrupted``.
        """
        known, _ = self._read()
        return known

    def _read(self) -> tuple[dict[str, Any], bytes | None]:
        value = self._data.engine.get(self._key)
        if value is None:
            return {"State": "none"}, None
        known: dict[str, Any] = orjson.loads(value)
        if known["State"] == "running" and not self._mine:
            silent = datetime.now(UTC) - datetime.fromisoformat(known["Updated"])
            if not self._data.engine.shared or silent.total_seconds() > _SILENT:
                known["State"] = "interrupted"
        return known, bytes(value)

    def start(self, about: dict[str, Any], total: int, work: Callable[[Progress], None]) -> dict[str, Any]:
        """Begins in the background; answers what is known of it. ``total`` is the number of steps.

        Raises Conflict where it is running already.
        """
        with self._starting:
            known, old = self._read()
            if known["State"] == "running":
                raise Conflict(f"{self._what} is running already: {known['Done']} of {known['Total']} steps are done")
            self.wait()  # one that has just ended may not have left yet
            known = {"State": "running", "Done": 0, "Total": total, "Started": _now(), **about}
            self._mine = True
            try:
                self.write(known, sync=True, guard={self._key: old})
            except BaseException as error:
                self._mine = False
                if isinstance(error, GuardFailed):
                    raise Conflict(f"{self._what} has just been started") from None
                raise

            def run(stop: threading.Event) -> None:
                _yield_to_requests()
                try:
                    known.update(self._outcome(work, Progress(self, known, stop)))
                    self.write(known, sync=True)
                finally:
                    self._mine = False

            begun = dict(known)
            self._data.database.jobs.start(self._name, run)
            return begun

    def _outcome(self, work: Callable[[Progress], None], progress: Progress) -> dict[str, str]:
        try:
            work(progress)
        except Stopped:
            return {"State": "interrupted"}
        except DvidError as e:
            log.error("%s: %s", self._name, e)
            return {"State": "failed", "Error": str(e)}
        except Exception:
            log.exception("%s failed", self._name)
            return {"State": "failed", "Error": "internal error of the server; its log says more"}
        return {"State": "done"}

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until it is not running in this process; False where that takes more than ``timeout`` seconds."""
        return self._data.database.jobs.wait(self._name, timeout)

    def write(self, known: dict[str, Any], *, sync: bool, guard: dict[bytes, bytes | None] | None = None) -> None:
        """Stores what is known."""
        known["Updated"] = _now()
        batch = Batch()
        batch.put(self._key, orjson.dumps(known))
        self._data.engine.write(batch, sync=sync, guard=guard)


def _yield_to_requests() -> None:
    """Has this thread run when others have nothing to do, as far as the system can tell threads apart."""
    with suppress(AttributeError, OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def _now() -> str:
    return datetime.now(UTC).isoformat()
