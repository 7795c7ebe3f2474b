"""Stored values and the formats of bodies."""

from __future__ import annotations

import contextlib
import gzip
import random
import struct
import zlib

import lz4.block
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvidcore import codecs
from dvidcore.errors import StoreError

COMPRESSIONS = ["none", "snappy", "lz4", "gzip", *(f"gzip:{n}" for n in range(1, 10))]
SAMPLES = {
    "empty": b"",
    "one byte": b"\0",
    "text": b"supervoxel " * 500,
    "noise": random.Random(1).randbytes(5000),
    "zeros": bytes(100_000),
    "large noise": random.Random(2).randbytes(70_000),
}

data = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda piece, n: piece * n, st.binary(min_size=1, max_size=20), st.integers(0, 400)),
)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("checksum", ["none", "crc32"])
@pytest.mark.parametrize("name", SAMPLES)
def test_a_packed_value_comes_back(name: str, compression: str, checksum: str) -> None:
    value = codecs.pack(SAMPLES[name], compression, checksum)
    assert value  # an empty value is a tombstone
    assert bytes(codecs.unpack(value)) == SAMPLES[name]
    assert bytes(codecs.unpack(memoryview(value))) == SAMPLES[name]
    assert len(value) <= len(SAMPLES[name]) + 5


@given(
    data,
    st.sampled_from(COMPRESSIONS),
    st.sampled_from(["none", "crc32"]),
    st.sampled_from([bytes, bytearray, memoryview]),
)
@settings(max_examples=80, deadline=None)
def test_any_value_comes_back(content: bytes, compression: str, checksum: str, kind: type) -> None:
    assert bytes(codecs.unpack(codecs.pack(kind(content), compression, checksum))) == content


@pytest.mark.parametrize("compression", ["snappy", "lz4", "gzip"])
def test_what_does_not_compress_is_plain_and_what_does_is_not(compression: str) -> None:
    assert codecs.pack(SAMPLES["noise"], compression) == b"\0" + SAMPLES["noise"]
    assert len(codecs.pack(SAMPLES["text"], compression)) < 600


def test_a_large_plain_value_is_not_copied() -> None:
    value = codecs.pack(SAMPLES["large noise"], "none")
    view = codecs.unpack(value)
    assert isinstance(view, memoryview)
    assert view.obj is value


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_checksum_finds_every_flipped_byte(compression: str) -> None:
    value = codecs.pack(SAMPLES["text"][:200], compression, "crc32")
    for i in range(len(value)):
        broken = bytearray(value)
        broken[i] ^= 0x41
        with pytest.raises(StoreError, match="damaged"):
            codecs.unpack(bytes(broken))


@pytest.mark.parametrize("value", [b"", b"\x05", b"\x0f123", b"\x20", b"\x80abc", b"\x10", b"\x10\0\0\0", b"\x02", b"\x02\1\0\0",
                                   b"\x02\xff\xff\xff\xff\0", b"\x01", b"\x01\xff\xff\xff\xff\xff\xff", b"\x03", b"\x03abc", b"\x04", b"\x04abc"])  # fmt: skip
def test_a_damaged_value(value: bytes) -> None:
    with pytest.raises(StoreError, match="damaged"):
        codecs.unpack(value)


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_a_value_or_damaged(value: bytes) -> None:
    with contextlib.suppress(StoreError):
        codecs.unpack(value)


@pytest.mark.parametrize("stored", COMPRESSIONS)
@pytest.mark.parametrize("name", SAMPLES)
def test_a_stored_value_in_the_form_of_another_compression(stored: str, name: str) -> None:
    content = SAMPLES[name]
    value = codecs.pack(content, stored, "crc32")
    assert bytes(codecs.transcode(value, "none")) == content
    sized = bytes(codecs.transcode(value, "lz4"))
    assert lz4.block.decompress(sized[4:], uncompressed_size=struct.unpack("<I", sized[:4])[0]) == content
    assert gzip.decompress(codecs.transcode(value, "gzip:3")) == content
    assert codecs.snappy_decompress(codecs.transcode(value, "snappy"), len(content)) == content


def test_a_value_in_its_stored_form_is_answered_as_it_stands() -> None:
    value = codecs.pack(SAMPLES["text"], "lz4")
    payload = codecs.transcode(value, "lz4")
    assert isinstance(payload, memoryview)
    assert payload.obj is value
    assert codecs.stored_form(value) == ("lz4", payload)
    assert codecs.unpack(codecs.wrap(payload, "lz4", "crc32")) == SAMPLES["text"]


def test_a_word_that_is_no_compression() -> None:
    with pytest.raises(ValueError, match="zip"):
        codecs.pack(SAMPLES["text"], "zip")
    with pytest.raises(ValueError, match="pack_jpeg"):
        codecs.pack(SAMPLES["text"], "jpeg")


# -- gzip -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", range(-1, 10))
def test_gzip_is_read_by_others_and_the_same_each_time(level: int) -> None:
    packed = codecs.gzip(SAMPLES["text"], level)
    assert gzip.decompress(packed) == SAMPLES["text"]
    assert packed == codecs.gzip(SAMPLES["text"], level)
    assert packed[4:8] == bytes(4)


@given(st.lists(data, min_size=1, max_size=5), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_gunzip_reads_all_members(contents: list[bytes], level: int) -> None:
    packed = b"".join(gzip.compress(c, level) for c in contents)
    whole = b"".join(contents)
    assert codecs.gunzip(packed, len(whole)) == whole
    assert codecs.gunzip(bytearray(packed), len(whole) + 1000) == whole
    if whole:
        with pytest.raises(ValueError, match="more than"):
            codecs.gunzip(packed, len(whole) - 1)


@pytest.mark.parametrize("members", [1, 2])
def test_gunzip_refuses_what_is_not_whole(members: int) -> None:
    packed = gzip.compress(SAMPLES["text"][:100]) * members
    last = len(packed) // members * (members - 1)
    for cut in (*range(last + 1, len(packed)),):
        with pytest.raises(ValueError, match="gzip"):
            codecs.gunzip(packed[:cut], 1000)
    for tail in (b"x", b"\0", bytes(20), b"\x1f\x8b", bytes(5000)):
        with pytest.raises(ValueError, match="gzip"):
            codecs.gunzip(packed + tail, 1000)
    for i in range(1, 9):  # checksum and size
        broken = bytearray(packed)
        broken[-i] ^= 1
        with pytest.raises(ValueError, match="gzip"):
            codecs.gunzip(broken, 1000)


@pytest.mark.parametrize("body", [b"", b"hello", b"hello, this is no gzip data", b"\x1f\x8b" + bytes(30)])
def test_gunzip_refuses_what_is_no_gzip(body: bytes) -> None:
    with pytest.raises(ValueError, match="gzip"):
        codecs.gunzip(body, 1000)


def test_a_bomb_is_refused_without_being_unpacked() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    honest = len(bomb)
    with pytest.raises(ValueError, match="more than"):
        codecs.gunzip(bomb, 1 << 20)
    lying = bomb[:-4] + struct.pack("<I", 10)
    with pytest.raises(ValueError, match="more than"):
        codecs.gunzip(lying, 1 << 20)
    assert honest < 100_000


def test_a_body_of_very_many_members_is_refused() -> None:
    with pytest.raises(ValueError, match="members"):
        codecs.gunzip(gzip.compress(b"") * 70_000, 1000)


def test_gunzip_of_a_large_member_whose_size_is_misread() -> None:
    first, second = random.Random(3).randbytes(300_000), b"tail" * 100
    packed = gzip.compress(first, 1) + gzip.compress(second)
    assert codecs.gunzip(packed, 1 << 20) == first + second


# -- lz4 and snappy -------------------------------------------------------------------------------------------------


@given(data)
@settings(max_examples=60, deadline=None)
def test_lz4_blocks(content: bytes) -> None:
    packed = codecs.lz4_block_compress(content)
    assert codecs.lz4_block_decompress(packed, len(content)) == content
    assert lz4.block.decompress(packed, uncompressed_size=len(content)) == content
    for wrong in (len(content) + 1, len(content) - 1, 10**12, -1):
        with pytest.raises(ValueError, match="LZ4"):
            codecs.lz4_block_decompress(packed, wrong)


@pytest.mark.parametrize("body", [b"", b"\xff", b"\xf0\xff\xff", b"abc"])
def test_lz4_blocks_that_are_none(body: bytes) -> None:
    with pytest.raises(ValueError, match="LZ4"):
        codecs.lz4_block_decompress(body, 10)


@given(data)
@settings(max_examples=60, deadline=None)
def test_snappy(content: bytes) -> None:
    packed = codecs.snappy_compress(content)
    assert codecs.snappy_decompress(packed, len(content)) == content
    if content:
        with pytest.raises(ValueError, match="at most"):
            codecs.snappy_decompress(packed, len(content) - 1)
        with pytest.raises(ValueError, match="snappy"):
            codecs.snappy_decompress(packed[:-1], len(content))


@pytest.mark.parametrize("body", [b"", b"\x80", b"\xff" * 8, b"\x05abc", b"\xff\xff\xff\x7fabc"])
def test_snappy_that_is_none(body: bytes) -> None:
    with pytest.raises(ValueError, match="snappy"):
        codecs.snappy_decompress(body, 1 << 40)


def test_zlib_is_not_gzip() -> None:
    with pytest.raises(ValueError, match="gzip"):
        codecs.gunzip(zlib.compress(SAMPLES["text"]), 1 << 20)


def test_more_than_a_compressor_takes_is_stored_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "_MOST", 1000)
    assert codecs.pack(bytes(1001), "lz4") == codecs.pack(bytes(1001), "none")
    assert len(codecs.pack(bytes(1000), "lz4")) < 100
