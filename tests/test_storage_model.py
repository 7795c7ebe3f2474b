"""Random operations on an engine and on a dict answer the same."""

from __future__ import annotations

import tempfile
from bisect import bisect_left
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from dvidcore import errors
from dvidcore.storage import Batch, Engine, open_engine
from dvidcore.storage.engine import Snapshot

TOP = b"\xff" * 8


def rows(reader: Engine | Snapshot, start: bytes = b"", stop: bytes = TOP, reverse: bool = False) -> list[Any]:
    return [(key, bytes(value)) for key, value in reader.scan(start, stop, reverse=reverse)]


KEYS = st.binary(min_size=1, max_size=3)
OPERATIONS = st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=4)), max_size=8)


class EngineModel(RuleBasedStateMachine):
    """Random operations on an engine and on a dict answer the same."""

    kind: str

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.model: dict[bytes, bytes] = {}
        self.snapshots: list[tuple[Snapshot, dict[bytes, bytes]]] = []

    @initialize()
    def start(self) -> None:
        self.engine = open_engine(self.kind, self.folder.name)

    @rule(operations=OPERATIONS, sync=st.booleans())
    def write(self, operations: list[tuple[bytes, bytes | None]], sync: bool) -> None:
        self.engine.write(self.batch(operations), sync=sync)
        self.apply(operations)

    @rule(operations=OPERATIONS, guard=st.dictionaries(KEYS, st.none() | st.binary(max_size=1), max_size=2))
    def guarded_write(self, operations: list[tuple[bytes, bytes | None]], guard: dict[bytes, bytes | None]) -> None:
        if all(self.model.get(key) == value for key, value in guard.items()):
            self.engine.write(self.batch(operations), guard=guard)
            self.apply(operations)
        else:
            with pytest.raises(errors.GuardFailed):
                self.engine.write(self.batch(operations), guard=guard)

    @rule(start=KEYS, stop=KEYS)
    def delete_range(self, start: bytes, stop: bytes) -> None:
        self.engine.delete_range(start, stop)
        self.model = {key: value for key, value in self.model.items() if not start <= key < stop}

    @rule()
    def take_snapshot(self) -> None:
        self.snapshots.append((self.engine.snapshot(), dict(self.model)))

    @rule()
    def reopen(self) -> None:
        if self.kind != "memory":
            self.drop_snapshots()
            self.engine.close()
            self.engine = open_engine(self.kind, self.folder.name)

    @rule(start=KEYS | st.just(b""), stop=KEYS, reverse=st.booleans())
    def read(self, start: bytes, stop: bytes, reverse: bool) -> None:
        for reader, model in [*self.snapshots[-3:], (self.engine, self.model)]:
            expected = sorted((key, value) for key, value in model.items() if start <= key < stop)
            if reverse:
                expected.reverse()
            assert rows(reader, start, stop, reverse) == expected
            assert list(reader.scan(start, stop, reverse=reverse, keys_only=True)) == [key for key, _ in expected]
            assert reader.get(stop) == model.get(stop)
            if isinstance(reader, Snapshot):
                keys = sorted(model)
                at = bisect_left(keys, stop + b"\x00")
                below = keys[at - 1] if at and keys[at - 1] >= start else None
                found = reader.floor(start, stop)
                assert (found and found[0]) == below
                assert below is None or (found and found[1]) == model[below]

    @invariant()
    def same(self) -> None:
        if hasattr(self, "engine"):
            assert dict(rows(self.engine)) == self.model

    @staticmethod
    def batch(operations: list[tuple[bytes, bytes | None]]) -> Batch:
        batch = Batch()
        for key, value in operations:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        return batch

    def apply(self, operations: list[tuple[bytes, bytes | None]]) -> None:
        for key, value in operations:
            self.model.pop(key, None)
            if value is not None:
                self.model[key] = value

    def drop_snapshots(self) -> None:
        for snapshot, _ in self.snapshots:
            snapshot.close()
        self.snapshots.clear()

    def teardown(self) -> None:
        self.drop_snapshots()
        if hasattr(self, "engine"):
            self.engine.close()
        self.folder.cleanup()


@pytest.mark.parametrize("kind", ["leveldb", "lmdb", "memory"])
def test_random_operations_against_a_dict(kind: str) -> None:
    machine = type("EngineModelOf", (EngineModel,), {"kind": kind})
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
