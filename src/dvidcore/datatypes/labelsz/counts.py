"""The rows of a labelsz instance, and changing counts with the rankings that go with them.

Versioned rows, read through a ``View`` (an empty value is a tombstone):

======  ==========================================================  ==========================
kind    type key                                                    value
======  ==========================================================  ==========================
COUNT   index type (1 byte), label (8)                              the count (8, little-endian)
RANK    index type (1), 2**64 - 1 - count (8), label (8)            1 (one byte)
======  ==========================================================  ==========================

A label with count 0 has neither. So a scan of RANK goes from the largest count to the smallest, and among equal ones
from the smallest label on. A generation (GENERATION, under version 0) counts the writes, and guards them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from dvidcore.datatypes.annotation.elements import KINDS
from dvidcore.datatypes.pending import erase, pending_rows
from dvidcore.errors import BadRequest
from dvidcore.geometry import UINT64_MAX
from dvidcore.storage.engine import Batch, Value
from dvidcore.storage.keys import TYPE_KEY_OFFSET, data_prefix, prefix_end, u64_key, u64_of, version_bytes
from dvidcore.storage.versioned import VersionedBatch, View

if TYPE_CHECKING:
    from dvidcore.datatypes.labelsz.datatype import LabelSizes

COUNT, RANK = 0x10, 0x11
GENERATION, RELOAD = 0x20, 0x21

ALL_SYNAPSES, VOXELS = 5, 6
INDEX_TYPES: Mapping[str, int] = {
    **{name: code for name, code in KINDS.items() if name != "Unknown"},
    "AllSyn": ALL_SYNAPSES,
    "Voxels": VOXELS,
}
"""By name, the number that stands for it in rows: that of the kind of elements, where it is one."""
SYNAPTIC = frozenset({KINDS["PostSyn"], KINDS["PreSyn"], KINDS["Gap"]})

Key = tuple[int, int]
"""An index type and a label."""


def index_type(name: str) -> int:
    """BadRequest for a name that is none."""
    found = INDEX_TYPES.get(name)
    if found is None:
        raise BadRequest(f'"{name[:40]}" is not an index type; there are {", ".join(INDEX_TYPES)}')
    return found


class Rows:
    """Makes the keys of one instance."""

    __slots__ = ("count", "generation", "instance", "rank", "reload")

    def __init__(self, instance: int) -> None:
        self.instance = data_prefix(instance, 0)[:-1]
        self.count = data_prefix(instance, COUNT)
        self.rank = data_prefix(instance, RANK)
        self.reload = data_prefix(instance, RELOAD)
        self.generation = data_prefix(instance, GENERATION) + version_bytes(0)
        """The whole key, since it is no version's."""

    def of_count(self, key: Key) -> bytes:
        return self.count + bytes((key[0],)) + u64_key(key[1])

    def of_rank(self, key: Key, count: int) -> bytes:
        return self.rank + bytes((key[0],)) + u64_key(UINT64_MAX - count) + u64_key(key[1])


def key_of(prefix_key: bytes) -> Key:
    """The index type and label of a COUNT or RANK row."""
    return prefix_key[TYPE_KEY_OFFSET], u64_of(prefix_key, len(prefix_key) - 8)


def count_of(value: Value | None) -> int:
    return int.from_bytes(value or b"", "little")


# -- reading -----------------------------------------------------------------------------------------------------------


def counts(data: LabelSizes, view: View, keys: Iterable[Key]) -> list[int]:
    """The counts of index types and labels, in their order."""
    return [count_of(value) for value in view.get_many([data.rows.of_count(key) for key in keys])]


def ranked(data: LabelSizes, view: View, kind: int, least: int, page: slice) -> Iterator[tuple[int, int]]:
    """(label, count) of those with a count of ``least`` or more, the largest first: a part of that ranking."""
    start = data.rows.rank + bytes((kind,))
    stop = prefix_end(start + u64_key(UINT64_MAX - least))
    for key in islice(view.keys(start, stop), page.start, page.stop):
        yield u64_of(key, TYPE_KEY_OFFSET + 9), UINT64_MAX - u64_of(key, TYPE_KEY_OFFSET + 1)


def counted(data: LabelSizes, view: View, first: int, last: int) -> dict[Key, int]:
    """The counts of all labels from ``first`` to ``last``, both included."""
    found = {}
    for kind in range(1, ALL_SYNAPSES + 1):
        start = data.rows.of_count((kind, first))
        for key, value in view.scan(start, prefix_end(data.rows.of_count((kind, last)))):
            found[key_of(key)] = count_of(value)
    return found


# -- changing ----------------------------------------------------------------------------------------------------------


def add(data: LabelSizes, view: View, batch: Batch, deltas: Mapping[Key, int]) -> None:
    """Adds to counts, in a batch on top of a view that may have rows of the instance already. None falls below 0."""
    wanted = [key for key, delta in deltas.items() if delta]
    own = pending_rows(batch, data.rows.count, view.ancestry.version)
    stored = counts(data, view, wanted)
    for key, before in zip(wanted, stored, strict=True):
        pending = own.get(data.rows.of_count(key))
        old = before if pending is None else count_of(pending)
        put(data, view, batch, key, old=old, new=max(0, old + deltas[key]))


def put(data: LabelSizes, view: View, batch: Batch, key: Key, *, old: int, new: int) -> None:
    """Changes a count and its place in the ranking."""
    if old == new:
        return
    writer = VersionedBatch(batch, view.ancestry.version)
    if old:
        erase(view, writer, data.rows.of_rank(key, old))
    if new:
        writer.put(data.rows.of_count(key), new.to_bytes(8, "little"))
        writer.put(data.rows.of_rank(key, new), b"\x01")
    else:
        erase(view, writer, data.rows.of_count(key))
