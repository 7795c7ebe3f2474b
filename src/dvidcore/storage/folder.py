"""The folder of a store: made where it is missing, opened once in a process, and never mistaken for another's."""

from __future__ import annotations

import os
import re
import threading

from dvidcore import errors

# A file that each kind of store has in its folder, and what their files of data are named.
_MARKS = {"CURRENT": "LevelDB", "data.mdb": "LMDB", "KEYREGISTRY": "Badger"}
_DATA_FILE = re.compile(r"\d+\.(ldb|sst|log|vlog)|segments")

_claimed: set[tuple[int, int]] = set()
_lock = threading.Lock()


class Folder:
    """This process's claim on the folder of a store.

    Engines lock their files against other processes, but a second opening in the same process must not even try: POSIX
    drops a process's locks on a file as soon as it closes any descriptor of it, and the refused opening closes one.
    """

    def __init__(self, path: str, mark: str, where: str) -> None:
        """Claims the folder of a store whose kind has a file named ``mark`` in it, and makes it where it is missing.

        Raises ``StoreError``, starting with ``where``, if the folder cannot be made, is claimed, or holds a store of
        another kind or one that lost its mark: an engine would make a new store there, and LevelDB delete the files
        that it doesn't know.
        """
        try:
            os.makedirs(path, exist_ok=True)
            present = set(os.listdir(path))
            status = os.stat(path)
        except OSError as error:
            raise errors.StoreError(f"{where} cannot be opened: {error}") from error
        if mark not in present:
            for other, kind in _MARKS.items():
                if other in present:
                    raise errors.StoreError(f"{where} cannot be opened: the folder holds a {kind} store")
            data = sorted(filter(_DATA_FILE.fullmatch, present))
            if data:
                raise errors.StoreError(f"{where} cannot be opened: the folder holds {data[0]}, but no file {mark}")
        self._identity = (status.st_dev, status.st_ino)
        with _lock:
            if self._identity in _claimed:
                raise errors.StoreError(f"{where} is in use: this process has it open already")
            _claimed.add(self._identity)

    def release(self) -> None:
        """Gives up the claim. To be called once the engine has let go of its files, and once only has an effect."""
        with _lock:
            _claimed.discard(self._identity)
            self._identity = (-1, -1)
