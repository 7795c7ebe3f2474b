"""LevelDB stores with small segments, for tests."""

from __future__ import annotations

from pathlib import Path

from dvidcore.storage import Batch, Engine, Snapshot
from dvidcore.storage.leveldb import LevelDB

TOP = b"\xff" * 8


def opened(path: Path, threshold: int = 100, megabytes: int = 1) -> LevelDB:
    """A store whose values of ``threshold`` bytes and more go to segments, also from small batches."""
    return LevelDB.open(str(path), segmentthreshold=threshold, segmentbatch=0, segmentsize=megabytes)


def put(engine: Engine, values: dict[bytes, bytes], sync: bool = False) -> None:
    batch = Batch()
    for key, value in values.items():
        batch.put(key, value)
    engine.write(batch, sync=sync)


def fill(engine: LevelDB, names: str, size: int = 300_000) -> dict[bytes, bytes]:
    """A batch for each letter; four go into a segment of 1 MB."""
    values = {name.encode(): name.encode() * size for name in names}
    for name, value in values.items():
        put(engine, {name: value})
    return values


def delete(engine: Engine, *keys: bytes, sync: bool = True) -> None:
    batch = Batch()
    for key in keys:
        batch.delete(key)
    engine.write(batch, sync=sync)


def content(reader: Engine | Snapshot) -> dict[bytes, bytes]:
    return {key: bytes(value) for key, value in reader.scan(b"", TOP)}


def files(path: Path) -> list[Path]:
    return sorted((path / "segments").glob("*.seg"))


def segment_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in files(path))
