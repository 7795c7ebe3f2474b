"""Work that goes on after its request was answered, in threads that end before the stores are closed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable

log = logging.getLogger(__name__)

Work = Callable[[threading.Event], None]
"""What is done; it returns soon after the event is set, and leaves the rest to the next start."""


class Jobs:
    """One thread for each job; of one name only one at a time."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running: dict[Hashable, threading.Thread] = {}
        self._stop = threading.Event()

    def start(self, name: Hashable, work: Work) -> None:
        """Begins with a job, unless one of its name is running. What it raises goes to the log."""
        with self._changed:
            if name in self._running or self._stop.is_set():
                return
            thread = threading.Thread(target=self._run, args=(name, work), name=str(name), daemon=True)
            self._running[name] = thread
            thread.start()

    def wait(self, name: Hashable, timeout: float | None = None) -> bool:
        """Waits until no job of a name is running; False where that takes more than ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: name not in self._running, timeout)

    def close(self) -> None:
        """Has all jobs stop, and waits until they have."""
        self._stop.set()
        with self._changed:
            self._changed.wait_for(lambda: not self._running)

    def _run(self, name: Hashable, work: Work) -> None:
        try:
            work(self._stop)
        except Exception:
            log.exception("%s failed", name)
        finally:
            with self._changed:
                del self._running[name]
                self._changed.notify_all()
