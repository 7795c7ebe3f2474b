"""Stored index rows against struct, and the protobuf messages against Google's own implementation."""

import contextlib
import struct
import threading

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dvidcore import labels
from reference_runs import block_key, examples, field, pack_row, varint

LIMIT = 2**20 - 1
Index = dict[tuple[int, int, int], dict[int, int]]  # {(z, y, x): {supervoxel: voxels}}

coord = st.integers(-3, 3) | st.sampled_from([LIMIT, -LIMIT])
uint64 = st.integers(0, 300) | st.integers(0, 2**64 - 1)
counts_of = st.dictionaries(uint64, st.integers(0, 2**32 - 1), min_size=1, max_size=6)
indices = st.dictionaries(st.tuples(coord, coord, coord), counts_of, max_size=12)
headers = st.tuples(uint64, *[st.text(max_size=8)] * 3)  # last_mutid, last_mod_time, _user, _app


def messages() -> dict[str, type[Message]]:
    """The message classes of DVID's proto file, declared as its text does."""
    file = descriptor_pb2.FileDescriptorProto(name="labelindex.proto", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto

    def message(name: str, *fields: tuple[str, int, int, bool, str], within: object = None) -> object:
        out = (within.nested_type if within else file.message_type).add(name=name)  # type: ignore[attr-defined]
        for field_name, number, kind, repeated, of in fields:
            label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            out.field.add(name=field_name, number=number, type=kind, label=label, type_name=of or None)
        return out

    u64, u32, string, sub = kinds.TYPE_UINT64, kinds.TYPE_UINT32, kinds.TYPE_STRING, kinds.TYPE_MESSAGE
    count = message("SVCount", ("counts", 1, sub, True, ".SVCount.CountsEntry"), ("surface_mutid", 2, u64, False, ""))
    entry = message("CountsEntry", ("key", 1, u64, False, ""), ("value", 2, u32, False, ""), within=count)
    entry.options.map_entry = True  # type: ignore[attr-defined]
    index = message(
        "LabelIndex",
        ("blocks", 1, sub, True, ".LabelIndex.BlocksEntry"),
        ("label", 2, u64, False, ""),
        ("last_mutid", 3, u64, False, ""),
        ("last_mod_time", 4, string, False, ""),
        ("last_mod_user", 5, string, False, ""),
        ("last_mod_app", 6, string, False, ""),
    )
    entry = message("BlocksEntry", ("key", 1, u64, False, ""), ("value", 2, sub, False, ".SVCount"), within=index)
    entry.options.map_entry = True  # type: ignore[attr-defined]
    message("LabelIndices", ("indices", 1, sub, True, ".LabelIndex"))
    message("MappingOp", ("mutid", 1, u64, False, ""), ("mapped", 2, u64, False, ""), ("original", 3, u64, True, ""))
    message("MappingOps", ("mappings", 1, sub, True, ".MappingOp"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = ("LabelIndex", "LabelIndices", "MappingOps")
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in names}


PROTO = messages()


def wire_key(z: int, y: int, x: int) -> int:
    z, y, x = (abs(v) | (v < 0) << 20 for v in (z, y, x))
    return z << 42 | y << 21 | x


def columns(index: Index) -> tuple[NDArray[np.int32], NDArray[np.uint64], NDArray[np.uint32]]:
    rows = [(at, s, n) for at in sorted(index) for s, n in sorted(index[at].items())]
    coords = np.array([at for at, _, _ in rows], np.int32).reshape(-1, 3)
    return coords, np.array([s for _, s, _ in rows], np.uint64), np.array([n for _, _, n in rows], np.uint32)


def surface(index: Index, stamp: int) -> NDArray[np.uint64]:
    """A column in which each block has a surface_mutid of its own, ``stamp`` the first."""
    return np.array([(stamp << k) % 2**64 for k, at in enumerate(sorted(index)) for _ in index[at]], np.uint64)


def to_dict(coords: NDArray[np.int32], supervoxels: NDArray[np.uint64], counts: NDArray[np.uint32]) -> Index:
    out: Index = {}
    for (z, y, x), s, n in zip(coords.tolist(), supervoxels.tolist(), counts.tolist(), strict=True):
        out.setdefault((z, y, x), {})[s] = n
    return out


@examples
@given(indices, uint64, headers, uint64)
def test_encode_index_is_read_by_protobuf(
    index: Index, label: int, header: tuple[int, str, str, str], stamp: int
) -> None:
    data = labels.encode_index(label, *columns(index), surface(index, stamp), *header)
    message = PROTO["LabelIndex"].FromString(data)
    assert {key: (dict(value.counts), value.surface_mutid) for key, value in message.blocks.items()} == {
        wire_key(*at): (index[at], (stamp << k) % 2**64) for k, at in enumerate(sorted(index))
    }
    assert message.label == label
    assert (message.last_mutid, message.last_mod_time, message.last_mod_user, message.last_mod_app) == header
    assert len(data) == message.ByteSize()


@examples
@given(indices, uint64, headers, uint64)
def test_decode_index_reads_protobuf(index: Index, label: int, header: tuple[int, str, str, str], stamp: int) -> None:
    mutid, time, user, app = header
    message = PROTO["LabelIndex"](
        label=label, last_mutid=mutid, last_mod_time=time, last_mod_user=user, last_mod_app=app
    )
    for k, at in enumerate(sorted(index)):
        message.blocks[wire_key(*at)].counts.update(index[at])
        message.blocks[wire_key(*at)].surface_mutid = (stamp << k) % 2**64
    got = labels.decode_index(message.SerializeToString())
    assert (got[0], *got[5:]) == (label, *header)
    for column, expected in zip(got[1:5], (*columns(index), surface(index, stamp)), strict=True):
        np.testing.assert_array_equal(column, expected)
        assert column.dtype == expected.dtype and column.shape == expected.shape


def test_decode_index_keeps_the_last_of_a_key_and_skips_the_unknown() -> None:
    def count(supervoxel: int, n: int) -> bytes:
        return field(1, field(1, supervoxel) + field(2, n))

    def block(key: int, *counts: bytes) -> bytes:
        return field(1, field(1, key) + field(2, b"".join(counts)))

    group = varint(9 << 3 | 3) + field(1, 5) + varint(2 << 3 | 3) + varint(2 << 3 | 4) + varint(9 << 3 | 4)
    data = (
        block(wire_key(0, 0, 1), count(5, 1))
        + field(77, b"unknown")
        + varint(78 << 3 | 5)
        + b"1234"
        + varint(79 << 3 | 1)
        + b"12345678"
        + group
        + block(0, count(9, 1), count(8, 2), count(9, 3))
        + block(wire_key(0, 0, 1), count(6, 4), field(3, b"x"))
        + block(1 << 20, count(7, 7))  # -0 is 0
        + field(2, 40)
        + field(2, 41)
        + field(2, b"another type is another field")
        + field(1, b"")  # the block (0, 0, 0) without counts
        + block(wire_key(1, 0, 0))
    )
    label, *rows = labels.decode_index(data)[:4]
    assert label == 41
    assert to_dict(*rows) == {(0, 0, 1): {6: 4}}
    assert to_dict(*labels.decode_index(block(0, count(9, 1), count(8, 2), count(9, 3)))[1:4]) == {
        (0, 0, 0): {8: 2, 9: 3}
    }
    merged = field(1, field(2, count(1, 1) + field(2, 8) + field(2, 9)) + field(1, 4) + field(2, count(2, 2)))
    assert to_dict(*labels.decode_index(merged)[1:4]) == {(0, 0, 4): {1: 1, 2: 2}}
    assert labels.decode_index(merged)[4].tolist() == [9, 9]
    assert labels.decode_index(block(0, count(1, 1), field(2, b"no number")))[4].tolist() == [0]


@examples
@given(st.binary(max_size=60))
def test_decoders_answer_or_refuse_any_bytes(data: bytes) -> None:
    for decode in (labels.decode_index, labels.decode_indices, labels.decode_mapping_ops):
        with contextlib.suppress(ValueError):
            decode(data)


@examples
@given(indices, st.data())
def test_decode_index_of_damaged_messages(index: Index, data: st.DataObject) -> None:
    message = bytearray(labels.encode_index(7, *columns(index), surface(index, 5), 1, "now"))
    cut = data.draw(st.integers(0, len(message)))
    for at in data.draw(st.lists(st.integers(0, len(message) - 1), max_size=3)):
        message[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(ValueError):
        labels.decode_index(message[:cut])


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",  # no length
        b"\x0a\x05\x08",  # cut short
        b"\x10" + b"\xff" * 9 + b"\x02",  # 65 bits
        b"\x10" + b"\x80" * 10 + b"\x00",  # 11 bytes
        b"\x00\x01",  # field 0
        b"\x16",  # wire type 6
        b"\x0c",  # the end of no group
        b"\x0b",  # a group without end
        b"\x0b\x14",  # a group that ends as another
        b"\x0b" * 200,
        field(1, field(1, 2**63)),
        field(1, field(2, field(1, field(1, 5) + field(2, 2**32)))),
        field(1, field(2, b"\x0a\x7f")),
        field(1, field(1, 3) + field(2, b"\x0a\x7f")) + field(1, field(1, 3)),  # hidden by a later entry
        field(4, b"\xff\xfe"),
    ],
)
def test_decode_index_refuses_what_is_corrupt(data: bytes) -> None:
    with pytest.raises(ValueError):
        labels.decode_index(data)


def test_encode_index_refuses_what_no_message_can_say() -> None:
    good = columns({(0, 0, 0): {1: 1, 2: 1}, (0, 0, 1): {1: 1}})
    for far in ((LIMIT + 1, 0, 0), (0, -LIMIT - 1, 0), (0, 0, -(2**31))):
        with pytest.raises(ValueError, match="block coordinate"):
            labels.encode_index(1, *columns({far: {1: 1}}))
    for order in ([1, 0, 2], [2, 0, 1], [0, 0, 1]):
        with pytest.raises(ValueError, match="ascending"):
            labels.encode_index(1, *(column[order].copy() for column in good))
    with pytest.raises(ValueError, match="columns"):
        labels.encode_index(1, good[0][:2].copy(), *good[1:])
    with pytest.raises(ValueError, match="columns"):
        labels.encode_index(1, good[0][:, :2].copy(), *good[1:])
    for bad in (-1, 2**64):
        with pytest.raises(ValueError, match="label"):
            labels.encode_index(bad, *good)
        with pytest.raises(ValueError, match="last_mutid"):
            labels.encode_index(1, *good, None, bad)
    with pytest.raises(ValueError, match="surface_mutid"):
        labels.encode_index(1, *good, np.ones(2, np.uint64))
    with pytest.raises(ValueError, match="surface_mutid"):
        labels.encode_index(1, *good, np.array([1, 2, 2], np.uint64))
    assert labels.encode_index(1, *good, np.array([0, 0, 0], np.uint64)) == labels.encode_index(1, *good)


@examples
@given(st.lists(indices, max_size=4))
def test_indices_are_a_list_of_index_messages(several: list[Index]) -> None:
    single = [labels.encode_index(i, *columns(index)) for i, index in enumerate(several)]
    data = labels.encode_indices(single)
    assert [m.label for m in PROTO["LabelIndices"].FromString(data).indices] == list(range(len(several)))
    assert [bytes(view) for view in labels.decode_indices(data)] == single
    assert [bytes(view) for view in labels.decode_indices(bytearray(data))] == single


@examples
@given(st.lists(st.tuples(uint64, uint64, st.lists(uint64, max_size=5)), max_size=5))
def test_mapping_ops_packed_and_not(ops: list[tuple[int, int, list[int]]]) -> None:
    message = PROTO["MappingOps"]()
    unpacked = b""
    for mutid, mapped, original in ops:
        message.mappings.add(mutid=mutid, mapped=mapped, original=original)
        unpacked += field(1, b"".join(field(3, s) for s in original) + field(2, mapped) + field(1, mutid))
    for data in (message.SerializeToString(), unpacked):
        got = labels.decode_mapping_ops(data)
        assert [(mutid, mapped, original.tolist()) for mutid, mapped, original in got] == ops
        assert all(original.dtype == np.uint64 for _, _, original in got)


def test_mapping_ops_refuse_a_cut_list() -> None:
    with pytest.raises(ValueError, match="cut short"):
        labels.decode_mapping_ops(field(1, field(3, b"\x01\x80")))


@examples
@given(
    st.lists(st.tuples(st.tuples(*[st.integers(-(2**31), 2**31 - 1)] * 3), counts_of), max_size=6),
    st.integers(0, 9),
    st.integers(0, 2**64 - 1),
)
def test_stored_rows(rows: list[tuple[tuple[int, int, int], dict[int, int]]], offset: int, surface: int) -> None:
    flat = [(s, n) for _, counts in rows for s, n in counts.items()]
    starts = np.cumsum([0] + [len(counts) for _, counts in rows[:-1]], dtype=np.int64)[: len(rows)]
    supervoxels = np.array([s for s, _ in flat], np.uint64)
    values = labels.pack_rows(supervoxels, np.array([n for _, n in flat], np.uint32), starts, surface)
    assert values == [pack_row(counts, surface) for _, counts in rows]
    assert [labels.row_voxels(value) for value in values] == [sum(counts.values()) for _, counts in rows]
    keys = [b"k" * offset + block_key(*at) + b"version" for at, _ in rows]
    columns = labels.unpack_rows(keys, values, offset)
    assert [column.dtype for column in columns] == [np.int32, np.uint64, np.uint32, np.uint64]
    assert columns[0].shape == (len(flat), 3)
    expected = [(*at, s, n, surface) for at, entries in rows for s, n in entries.items()]
    got = zip(*(column.tolist() for column in columns), strict=True)
    assert [(*at, s, n, stamp) for at, s, n, stamp in got] == expected


def test_each_packed_row_may_have_a_surface_of_its_own() -> None:
    supervoxels, counts = np.array([1, 2, 3], np.uint64), np.array([4, 5, 6], np.uint32)
    starts, stamps = np.array([0, 2], np.int64), np.array([7, 2**64 - 1], np.uint64)
    assert labels.pack_rows(supervoxels, counts, starts, stamps) == [
        pack_row({1: 4, 2: 5}, 7),
        pack_row({3: 6}, 2**64 - 1),
    ]
    for wrong in (stamps[:0], np.append(stamps, stamps[:1])):
        with pytest.raises(ValueError):
            labels.pack_rows(supervoxels, counts, starts, wrong)


@examples
@given(counts_of, counts_of, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_joined_rows(first: dict[int, int], second: dict[int, int], one: int, other: int) -> None:
    first, second = ({s: n % 2**31 for s, n in row.items()} for row in (first, second))
    joined = {s: first.get(s, 0) + second.get(s, 0) for s in sorted(first | second)}
    row = labels.join_rows(pack_row(dict(sorted(first.items())), one), pack_row(dict(sorted(second.items())), other))
    assert row == pack_row(joined, max(one, other))


def test_a_row_that_is_not_there_has_no_voxels() -> None:
    assert labels.row_voxels(b"") == 0


def test_keys_ascend_as_blocks_do() -> None:
    ordered = sorted(
        struct.unpack(">3I", block_key(*at)) + at for at in [(-1, 0, 5), (0, -7, 2), (0, 0, -1), (3, 1, 0)]
    )
    keys = [block_key(*at[3:]) for at in ordered]
    coords = labels.unpack_rows(keys, [pack_row({1: 1})] * 4, 0)[0]
    assert coords.tolist() == sorted(coords.tolist())


def test_malformed_rows() -> None:
    one, key = pack_row({1: 2}), block_key(0, 0, 0)
    for keys, values, offset, message in (
        ([key], [b""], 0, "0 bytes"),
        ([key], [one[:8]], 0, "8 bytes"),
        ([key], [one[:-1]], 0, "19 bytes"),
        ([key], [one], 1, "12 bytes"),
        ([key], [one], 2**31 - 1, "12 bytes"),
        ([key], [one], 2**63 - 1, "12 bytes"),
        ([key[:-1]], [one], 0, "11 bytes"),
        ([b""], [one], 0, "0 bytes"),
        ([key], [one, one], 0, "1 keys, but 2 values"),
        ([key], [one], -1, "key_offset"),
    ):
        with pytest.raises(ValueError, match=message):
            labels.unpack_rows(keys, values, offset)
    ones, counts, start = np.ones(2, np.uint64), np.ones(2, np.uint32), np.zeros(1, np.int64)
    with pytest.raises(ValueError, match="2 supervoxels, but 1 counts"):
        labels.pack_rows(ones, counts[:1], start)
    for starts in ([], [1], [0, 0], [0, 2], [0, 5], [0, -1]):
        with pytest.raises(ValueError, match="group"):
            labels.pack_rows(ones, counts, np.array(starts, np.int64))
    with pytest.raises(ValueError):
        labels.pack_rows(ones, ones, start)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="more voxels"):
        labels.join_rows(pack_row({1: 2**32 - 1}), pack_row({1: 1}))


def test_many_threads_decode_one_index() -> None:
    index = {(z, y, x): {s: s + x for s in range(1, 6)} for z in range(4) for y in range(8) for x in range(16)}
    data = labels.encode_index(3, *columns(index))
    got: list[Index] = []
    threads = [threading.Thread(target=lambda: got.append(to_dict(*labels.decode_index(data)[1:4]))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [index] * 6
