"""Mutation logs as files, beside the store: what ``[mutations] jsonstore`` in the configuration asks for.

One file for each instance and version, ``<DataUUID>-<version UUID>.plog``, of records ``uint32 length, uint32 CRC-32C of
the data, uint16 type`` (little-endian) and the data, a JSON object. The format is DVID's, so that tools which follow
such files go on working. The truth is in the store (``dvidcore.mutations.log``); a mutation is appended here once its
batch is written.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from dvidcore.errors import StoreError
from dvidcore.mutations._crc32c import crc32c

_header = struct.Struct("<IIH")
_JSON = 1
_OPEN_FILES = 64


def read_records(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """The whole records of a file, the oldest first. Ends before a record that is cut short or damaged."""
    with open(path, "rb") as file:
        while (record := _next_record(file)) is not None:
            yield record


def _next_record(file: BinaryIO | FileIO) -> bytes | None:
    header = file.read(_header.size)
    if len(header) < _header.size:
        return None
    length, crc, kind = _header.unpack(header)
    if kind != _JSON or length > os.fstat(file.fileno()).st_size - file.tell():
        return None
    data = file.read(length)
    return data if crc32c(data) == crc else None


class JsonLog:
    """The files of one folder. Safe to use from several threads; one process at a time writes to a folder."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Makes the folder where it does not exist. Raises ``StoreError`` where that fails."""
        self.folder = Path(folder)
        self._files: dict[Path, FileIO] = {}
        self._lock = threading.Lock()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise StoreError(f"mutation log folder {self.folder}: {e.strerror}") from None

    def path(self, data_uuid: str, version_uuid: str) -> Path:
        """The file of an instance and a version; it may not exist yet."""
        return self.folder / f"{data_uuid}-{version_uuid}.plog"

    def append(self, data_uuid: str, version_uuid: str, records: Sequence[bytes]) -> None:
        """Appends JSON records; they are on the disk on return. Raises ``StoreError`` where the disk fails."""
        if not records:
            return
        data = b"".join(part for record in records for part in (_framing(record), record))
        path = self.path(data_uuid, version_uuid)
        with self._lock:
            try:
                file = self._file(path)
                left = memoryview(data)
                while left:
                    left = left[file.write(left) :]
                os.fsync(file.fileno())
            except OSError as e:
                # What is torn is cut off when the file is opened again: to do that now may fail as the write did.
                if (torn := self._files.pop(path, None)) is not None:
                    torn.close()
                raise StoreError(f"mutation log {path}: {e.strerror}; the change itself is stored") from None

    def _file(self, path: Path) -> FileIO:
        file = self._files.pop(path, None)
        if file is None:
            file = self._opened(path)
        self._files[path] = file  # the last used is the last to be closed
        if len(self._files) > _OPEN_FILES:
            self._files.pop(next(iter(self._files))).close()
        return file

    def _opened(self, path: Path) -> FileIO:
        """The file, cut behind its last whole record: what follows was torn by a crash and would hide later ones."""
        new = not path.exists()
        file = FileIO(path, "a+")
        file.seek(0)
        end = 0
        while _next_record(file) is not None:
            end = file.tell()
        if end < file.seek(0, os.SEEK_END):
            file.truncate(end)
        if new:
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        return file

    def close(self) -> None:
        """Closes the files; the log may be used again."""
        with self._lock:
            for file in self._files.values():
                file.close()
            self._files = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _framing(record: bytes) -> bytes:
    return _header.pack(len(record), crc32c(record), _JSON)
