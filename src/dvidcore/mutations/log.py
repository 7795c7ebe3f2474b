"""The mutation log: records of what was changed in an instance at a version, written in the mutation's own batch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from dvidcore.storage.engine import Batch, Reader, Snapshot
from dvidcore.storage.keys import log_key, log_range, split_log

# A sequence number is the mutation's id and a number that grows with each record of this process, so that a mutation
# may append several times; the ids keep processes and restarts apart. Where records must be in order of completion,
# those of a mutation that took its id early follow the last one there is instead.
_COUNT_BITS = 24
_count = itertools.count()


def timestamp() -> str:
    """The present as the log writes it, ``2026-11-22 23:27:26.123456 +0000 UTC``.

    Clients of DVID parse the fraction and expect a word behind the offset.
    """
    return f"{datetime.now(UTC).isoformat(' ', 'microseconds')[:26]} +0000 UTC"


def append(
    batch: Batch,
    instance_id: int,
    version_id: int,
    mutation_id: int,
    records: Sequence[Mapping[str, Any]],
    *,
    after: int = 0,
) -> list[bytes]:
    """Puts ``records`` into the batch of the mutation that they tell of; answers them as JSON, for other sinks.

    Records are read back in the order of their mutation ids, those of one mutation in the order of being appended; but
    these come after all that were there where ``after`` is ``last`` of the state that the batch is guarded to go onto.
    Integers up to 64 bits are exact. Raises ``ValueError`` for a mutation id of 40 bits or more.
    """
    if not 0 <= mutation_id < 1 << (64 - _COUNT_BITS):
        raise ValueError(f"mutation id {mutation_id} must fit {64 - _COUNT_BITS} bits")
    encoded = [orjson.dumps(record) for record in records]
    for data in encoded:
        after = max(after + 1, mutation_id << _COUNT_BITS | next(_count) & (1 << _COUNT_BITS) - 1)
        batch.put(log_key(instance_id, version_id, after), data)
    return encoded


def last(snapshot: Snapshot, instance_id: int, version_id: int) -> int:
    """The sequence number of the last record of an instance at a version, 0 without any."""
    row = snapshot.floor_stub(log_key(instance_id, version_id, 0), log_key(instance_id, version_id, 2**64 - 1))
    return 0 if row is None else split_log(row[0])[2]


def records(snapshot: Reader, instance_id: int, version_id: int) -> Iterator[bytes]:
    """The records of an instance at one version as JSON, the oldest first; one scan, nothing is decoded."""
    for _, value in snapshot.scan(*log_range(instance_id, version_id)):
        yield bytes(value)
