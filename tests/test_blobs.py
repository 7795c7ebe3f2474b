"""Blobs and the hash that names them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvidcore._fnv import fnv1_128
from dvidcore.errors import BadRequest, NotFound
from dvidcore.repos import Database
from dvidcore.storage.keys import BLOB, prefix_range


def test_blobs_are_named_by_their_content(db: Database) -> None:
    engine = db.stores["main"]
    assert db.put_blob(engine, b"hello blob") == "7-5W1puL8R05KcWnGmCpQA=="
    assert db.put_blob(engine, b"hello blob") == "7-5W1puL8R05KcWnGmCpQA=="
    assert db.get_blob(engine, "7-5W1puL8R05KcWnGmCpQA==") == b"hello blob"
    assert len(list(engine.scan(*prefix_range(BLOB)))) == 1
    assert db.get_blob(engine, db.put_blob(engine, b"")) == b""
    for unknown in ("AAAAAAAAAAAAAAAAAAAAAA==", "AAAA", "AAAAAAAAAAAAAAAAAAAAAAAA", ""):
        with pytest.raises(NotFound):
            db.get_blob(engine, unknown)
    for bad in (
        "!!",
        "7-5W1puL8R05KcWnGmCpQA",
        "7+5W1puL8R05KcWnGmCpQA==",
        "7/5W1puL8R05KcWnGmCpQA==",
        "é",
    ):
        with pytest.raises(BadRequest):
            db.get_blob(engine, bad)


@given(st.binary(max_size=300))
def test_fnv_against_its_definition(data: bytes) -> None:
    value = 0x6C62272E07BB014262B821756295C58D
    for byte in data:
        value = value * (2**88 + 0x13B) % 2**128 ^ byte
    assert fnv1_128(data) == fnv1_128(bytearray(data)) == fnv1_128(memoryview(data)) == value.to_bytes(16, "big")
