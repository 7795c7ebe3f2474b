"""The hand-written protobuf against the protobuf package."""

from __future__ import annotations

import io
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dvidcore import wire


def messages() -> dict[str, Any]:
    """The four message classes, from their definition."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="pairs.proto", package="pairs", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, bool, str]) -> None:
        declared = file.message_type.add(name=name)
        for number, (field_name, kind, repeated, of) in enumerate(fields, 1):
            label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            declared.field.add(name=field_name, number=number, type=kind, label=label, type_name=of or None)

    text, data, number, nested = field.TYPE_STRING, field.TYPE_BYTES, field.TYPE_UINT64, field.TYPE_MESSAGE
    message("KeyValue", ("key", text, False, ""), ("value", data, False, ""))
    message("KeyValues", ("kvs", nested, True, ".pairs.KeyValue"))
    message("KeyRange", ("key", text, False, ""), ("byte_start", number, False, ""), ("byte_end", number, False, ""))
    message("Keys", ("keys", text, True, ""), ("key_ranges", nested, True, ".pairs.KeyRange"))
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {
        m.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"pairs.{m.name}"))
        for m in file.message_type
    }


MESSAGES = messages()

texts = st.text(max_size=200)
uint64 = st.integers(0, 2**64 - 1)
pairs_lists = st.lists(st.tuples(texts, st.binary(max_size=300)), max_size=8)
ranges_lists = st.lists(st.builds(wire.KeyRange, texts, uint64, uint64), max_size=5)


def decoded(data: bytes) -> list[tuple[str, bytes]]:
    return list(wire.read_key_values(io.BytesIO(data).read))


@given(pairs_lists)
@settings(max_examples=60, deadline=None)
def test_key_values(pairs: list[tuple[str, bytes]]) -> None:
    message = MESSAGES["KeyValues"]()
    for key, value in pairs:
        message.kvs.add(key=key, value=value)
    assert decoded(message.SerializeToString()) == pairs
    read = MESSAGES["KeyValues"].FromString(wire.encode_key_values(pairs))
    assert [(pair.key, pair.value) for pair in read.kvs] == pairs


@given(st.lists(texts, max_size=8), ranges_lists)
@settings(max_examples=60, deadline=None)
def test_keys(keys: list[str], ranges: list[wire.KeyRange]) -> None:
    message = MESSAGES["Keys"](keys=keys)
    for key, start, end in ranges:
        message.key_ranges.add(key=key, byte_start=start, byte_end=end)
    assert wire.decode_keys(message.SerializeToString()) == (keys, ranges)
    assert MESSAGES["Keys"].FromString(wire.encode_keys(keys, ranges)) == message


def has_group(data: bytes) -> bool:
    """Whether a byte of the data may be the tag of a group, which is refused here and skipped by the package."""
    return any(byte & 7 in (3, 4) for byte in data)


@given(
    st.binary(max_size=40)
    | st.lists(st.sampled_from([0, 1, 2, 5, 8, 10, 16, 18, 24, 26, 97, 128, 200, 255]), max_size=20).map(bytes)
)
@example(b"\x0a\x80\x00")
@example(b"\x0a\x03\x0a\x05ab")
@example(b"\x0a\x03\x0a\x05ab\x00\x00\x00\x00")
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_as_the_package_reads_them(data: bytes) -> None:
    if has_group(data):
        return
    for name, read in (("KeyValues", decoded), ("Keys", wire.decode_keys)):
        try:
            message = MESSAGES[name].FromString(data)
        except DecodeError:
            with pytest.raises(ValueError):
                read(data)
            continue
        if name == "KeyValues":
            assert decoded(data) == [(pair.key, pair.value) for pair in message.kvs]
        else:
            ranges = [wire.KeyRange(r.key, r.byte_start, r.byte_end) for r in message.key_ranges]
            assert wire.decode_keys(data) == (list(message.keys), ranges)


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b'{"a": 1}', b"\x0a", b"\x0a\x05\x0a\x03ab", b"\x0a\x05\x0a\x03\xff\xfe\xfd", b"\x00\x00", b"\x80" * 11, b"\x0b\x0c"])  # fmt: skip
def test_what_is_no_message(data: bytes) -> None:
    with pytest.raises(ValueError):
        decoded(data)
    with pytest.raises(ValueError):
        wire.decode_keys(data)


def test_an_empty_message() -> None:
    assert decoded(b"") == []
    assert wire.decode_keys(b"") == ([], [])


@pytest.mark.parametrize("extra", [0, 1, 2, 3, 100])
def test_a_message_larger_than_a_piece(extra: int) -> None:
    piece = 4 << 20
    sizes = [piece - 30 + extra, 5, 0, 3 * piece, 1, *[70_000] * 100]
    pairs = [(f"key {i}", bytes([i]) * size) for i, size in enumerate(sizes)]
    data = wire.encode_key_values(pairs)
    assert decoded(data) == pairs
    for cut in (1, 100, 70_000):
        with pytest.raises(ValueError, match="ends within"):
            decoded(data[:-cut])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_message_that_ends_with_a_piece(count: int) -> None:
    piece = 4 << 20
    head = len(wire.key_value_head("k", piece - 100))
    pairs = [("k", bytes(piece - head))] * count
    data = wire.encode_key_values(pairs)
    assert len(data) == count * piece
    assert decoded(data) == pairs
