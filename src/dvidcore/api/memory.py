"""The C library's heap: large buffers are kept while the server is busy, and given back when it is quiet.

Fresh pages for each large buffer halve the speed of one thread and keep two from scaling, so glibc is told to keep what
was freed. Its heaps would then never shrink again; they are trimmed once nothing large has passed for a while.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable

QUIET = 2.0
"""Seconds without a large request after which free memory is given back."""
LARGE = 1 << 20
"""Bytes of body and answer from which a request counts as large."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MB = 1 << 20


def keep_memory() -> Callable[[], object] | None:
    """Has glibc keep large buffers that were freed; what gives them back is returned, None without glibc."""
    try:
        library = ctypes.CDLL(None)
        mallopt, trim = library.mallopt, library.malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    mallopt(_M_MMAP_THRESHOLD, 1 << 30)
    mallopt(_M_TRIM_THRESHOLD, 256 * _MB)
    return lambda: trim(0)


class Trimmer:
    """Calls ``trim`` when large requests have come to an end. Its thread starts with the first and sleeps between."""

    def __init__(self, trim: Callable[[], object] | None, quiet: float = QUIET) -> None:
        self._trim = trim
        self._quiet = quiet
        self._used = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def used(self) -> None:
        """A large request has been answered."""
        self._used.set()
        if self._thread is None and self._trim is not None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, args=(self._trim,), daemon=True, name="trimmer")
                    self._thread.start()

    def _run(self, trim: Callable[[], object]) -> None:
        while True:
            self._used.wait()
            while self._used.is_set():
                self._used.clear()
                time.sleep(self._quiet)
            trim()
