"""LevelDB's log of what is not in its tables yet, kept readable after writes that failed.

A write that fails halfway, because the disk is full, leaves the beginning of a record at the end of the log. LevelDB
appends the next records behind it and acknowledges them, but at the next start it can read none of them. So after a
failure nothing is written before all that is in memory is in tables and LevelDB has begun another log.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
from contextlib import suppress
from typing import Any

import plyvel

from dvidcore import errors

_LOG = re.compile(r"(\d+)\.log")
_SPARE = 1 << 20  # what a table and the next log take beyond what was logged


class Journal:
    """All writes to one LevelDB. Safe to use from several threads; what LevelDB raises is passed on."""

    def __init__(self, db: Any, folder: str) -> None:
        self._db = db
        self._folder = folder
        self._counting = threading.Lock()
        self._mending = threading.Lock()
        self._failures = 0
        self._mended = 0  # of the failures, those before the present log

    def ready(self) -> None:
        """Raises ``StoreError`` where an earlier write failed and that cannot be mended: no batch can be written."""
        if self._failures != self._mended:
            self._mend()

    def write(self, writes: Any) -> None:
        """Writes a batch of LevelDB's. Raises ``StoreError`` as :meth:`ready`."""
        self.ready()
        self._write(writes)

    def persist(self) -> None:
        """Puts all that was written so far into tables on the disk; what comes goes to another log.

        Raises ``StoreError`` where LevelDB cannot begin one.
        """
        failures = self._failures
        before = self._logs()
        self._db.compact_range(start=b"\x00", stop=b"\x00")  # no row lies there, but the memory is written first
        self._write(self._db.write_batch(sync=True))  # fails if that did
        if max(self._logs(), default=0) <= max(before, default=0):
            raise errors.StoreError(f"LevelDB could not begin another log in {self._folder}")
        self._mended = failures

    def _write(self, writes: Any) -> None:
        try:
            writes.write()
        except plyvel.Error:
            with self._counting:
                self._failures += 1
            raise

    def _mend(self) -> None:
        with self._mending:
            if self._failures == self._mended:
                return
            # LevelDB takes no more writes until it is opened again once it could not write a table.
            if shutil.disk_usage(self._folder).free < sum(self._logs().values()) + _SPARE:
                raise errors.StoreError("LevelDB: a write has failed, and the disk has no room for another log")
            self.persist()

    def _logs(self) -> dict[int, int]:
        """The bytes of the present logs by their numbers, which grow."""
        found = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if match := _LOG.fullmatch(entry.name):
                    with suppress(FileNotFoundError):  # LevelDB removes them in a thread of its own
                        found[int(match[1])] = entry.stat().st_size
        return found
