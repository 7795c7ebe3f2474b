"""Editing elements: the rows that an edit reads and changes, kept in step, and what it means for followers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvidcore import codecs
from dvidcore.datatypes.annotation.elements import Item, Place
from dvidcore.datatypes.annotation.lists import ElementList, points
from dvidcore.datatypes.annotation.rows import ZYX_BYTES, Pairs, Zyx, pack_size
from dvidcore.datatypes.following import Counted, ElementChange
from dvidcore.datatypes.pending import erase, pending_rows
from dvidcore.storage.engine import Batch
from dvidcore.storage.keys import prefix_end, zyx_key, zyx_keys
from dvidcore.storage.versioned import KeyConflict, VersionedBatch, View

if TYPE_CHECKING:
    from dvidcore.datatypes.annotation.datatype import Annotation

Value = bytes | memoryview


class Located(NamedTuple):
    """An element that came to a body, or left it."""

    body: int
    kind: int
    place: Place


class Edit:
    """What one write changes of an instance, computed from a view. Nothing is stored before ``write``.

    All rows are read through it, so that what it changed already is seen.
    """

    def __init__(self, data: Annotation, view: View, pending: Batch | None = None) -> None:
        """``pending``: a batch that is to be written on top of the view, which may have rows of this instance."""
        self.data = data
        self.view = view
        self.size = data.block_size(view.snapshot)
        self._sized = view.snapshot.get(data.rows.size) is not None
        self._lists: dict[bytes, ElementList] = {}
        self._pairs: dict[Zyx, Pairs] = {}
        self._settled: set[bytes] = set()
        self._pending = pending_rows(pending, data.rows.instance, view.ancestry.version)
        self.overrides: tuple[bytes, ...] = ()
        """Beginnings of keys under which what merged versions disagree on counts as nothing, to be written anew."""
        self.removed: list[Located] = []
        self.added: list[Located] = []

    # -- reading -------------------------------------------------------------------------------------------------------

    def block_of(self, place: Place) -> Zyx:
        """The block of a position."""
        z, y, x = points([place])[0].tolist()
        return zyx_key(z // self.size.z, y // self.size.y, x // self.size.x)

    def blocks_of(self, voxels: NDArray[np.int64]) -> list[Zyx]:
        """The blocks of voxels, int64 (n, 3) z, y, x."""
        return zyx_keys(voxels // np.array(self.size, np.int64))

    def _get(self, prefix_keys: Sequence[bytes]) -> list[Value | None]:
        if not self._pending:
            return self._stored(prefix_keys)
        own = self._pending
        stored = iter(self._stored([key for key in prefix_keys if key not in own]))
        return [(own[key] or None) if key in own else next(stored) for key in prefix_keys]

    def _stored(self, prefix_keys: Sequence[bytes]) -> list[Value | None]:
        try:
            return self.view.get_many(prefix_keys)
        except KeyConflict:
            if not self.overrides:
                raise
        return [self._stored_or_settled(key) for key in prefix_keys]

    def _stored_or_settled(self, prefix_key: bytes) -> Value | None:
        try:
            return self.view.get(prefix_key)
        except KeyConflict:
            if not prefix_key.startswith(self.overrides):
                raise
            self._settled.add(prefix_key)
            return None

    def load(self, prefix_keys: Iterable[bytes]) -> None:
        """Reads rows with lists of elements together, which is faster than one by one."""
        missing = [key for key in prefix_keys if key not in self._lists]
        for key, value in zip(missing, self._get(missing), strict=True):
            self._lists[key] = ElementList(None if value is None else codecs.unpack(value))

    def load_blocks(self, blocks: Sequence[Zyx]) -> None:
        """``load`` of the BLOCK and BODIES rows of blocks."""
        self.load([self.data.rows.block + zyx for zyx in blocks])
        self.load_pairs(blocks)

    def load_pairs(self, blocks: Sequence[Zyx]) -> None:
        """``load`` of the BODIES rows of blocks."""
        prefix = self.data.rows.bodies
        missing = [zyx for zyx in blocks if zyx not in self._pairs]
        for zyx, value in zip(missing, self._get([prefix + zyx for zyx in missing]), strict=True):
            self._pairs[zyx] = Pairs(None if value is None else codecs.unpack(value))

    def load_body_rows(self, wanted: Iterable[tuple[int, Zyx]]) -> None:
        """``load`` of the BODY rows of (body, block); those that are known not to exist are not looked for."""
        of_body, missing = self.data.rows.of_body, []
        known: dict[Zyx, set[int]] = {}
        for body, zyx in set(wanted):
            bodies = known.get(zyx)
            if bodies is None:
                bodies = known[zyx] = self.pairs(zyx).bodies()
            key = of_body(body) + zyx
            if body in bodies:
                missing.append(key)
            else:
                self._lists.setdefault(key, ElementList())
        self.load(missing)

    def row(self, prefix_key: bytes) -> ElementList:
        found = self._lists.get(prefix_key)
        if found is None:
            self.load([prefix_key])
            found = self._lists[prefix_key]
        return found

    def block(self, zyx: Zyx) -> ElementList:
        return self.row(self.data.rows.block + zyx)

    def body(self, body: int, zyx: Zyx) -> ElementList:
        return self.row(self.data.rows.of_body(body) + zyx)

    def tag(self, tag: str, zyx: Zyx) -> ElementList:
        return self.row(self.data.rows.of_tag(tag) + zyx)

    def pairs(self, zyx: Zyx) -> Pairs:
        found = self._pairs.get(zyx)
        if found is None:
            self.load_pairs([zyx])
            found = self._pairs[zyx]
        return found

    def rows_of_body(self, body: int) -> Iterator[tuple[Zyx, ElementList]]:
        """(block, list) of all rows of a body that have elements."""
        start = self.data.rows.of_body(body)
        keys = dict.fromkeys(self.view.keys(start, prefix_end(start)))
        keys |= dict.fromkeys(key for key in (*self._pending, *self._lists) if key.startswith(start))
        self.load(keys)
        for key in keys:
            found = self._lists[key]
            if len(found):
                yield key[len(start) :], found

    # -- changing ------------------------------------------------------------------------------------------------------

    def put(self, item: Item, zyx: Zyx, body: int) -> None:
        """Stores an element, in place of one at its position, on a body (0: none)."""
        block = self.block(zyx)
        old = block.get(item.place)
        if old is None:
            block.append(item)
        else:
            self._forget(old, zyx)
            block.put(item)
        bare = item.bare
        for tag in item.tags() if b'"Tags":[]' not in item.text else ():
            self.tag(tag, zyx).put(bare)
        if body:
            self.index(bare, zyx, body)

    def take(self, place: Place, zyx: Zyx) -> Item | None:
        """Takes out the element at a position, its tags and bodies with it."""
        item = self.block(zyx).pop(place)
        if item is not None:
            self._forget(item, zyx)
        return item

    def _forget(self, item: Item, zyx: Zyx) -> None:
        for tag in item.tags() if b'"Tags":[]' not in item.text else ():
            self.tag(tag, zyx).pop(item.place)
        for body in self.pairs(zyx).of(item.place):
            self.unindex(item.place, zyx, body)

    def index(self, bare: Item, zyx: Zyx, body: int) -> None:
        """Puts an element on a body's list."""
        self.pairs(zyx).add(bare.place, body)
        row = self.body(body, zyx)
        old = row.get(bare.place)
        if old is None:
            row.append(bare)
        elif old != bare:
            self.removed.append(Located(body, old.kind, old.place))
            row.put(bare)
        else:
            return
        self.added.append(Located(body, bare.kind, bare.place))

    def unindex(self, place: Place, zyx: Zyx, body: int) -> Item | None:
        """Takes an element from a body's list."""
        self.pairs(zyx).remove(place, body)
        item = self.body(body, zyx).pop(place)
        if item is not None:
            self.removed.append(Located(body, item.kind, place))
        return item

    def rename(self, zyx: Zyx, row: ElementList, old: int, new: int) -> None:
        """Moves all of a body's elements in a block to another body's list."""
        target = self.body(new, zyx)
        places, kinds = row.places(), row.kinds()
        if target.disjoint(row):
            target.extend(row)
            self.added += map(Located, [new] * len(places), kinds, places)
        else:
            for item in row:
                self.index(item, zyx, new)
        self.removed += map(Located, [old] * len(places), kinds, places)
        row.clear()
        self.pairs(zyx).replace(old, new)

    # -- writing -------------------------------------------------------------------------------------------------------

    def changed_rows(self) -> list[bytes]:
        """The prefix keys of the rows that ``write`` would write."""
        lists = [key for key, row in self._lists.items() if row.changed]
        return lists + [self.data.rows.bodies + zyx for zyx, pairs in self._pairs.items() if pairs.changed]

    def number(self, prefix_key: bytes) -> int:
        """How many elements a row has, as it is now."""
        found = self._lists.get(prefix_key)
        return len(self._pairs[prefix_key[-ZYX_BYTES:]]) if found is None else len(found)

    def change(self, action: str, mutation: int) -> ElementChange:
        """What followers are told."""
        return ElementChange(action, mutation, removed=_counted(self.removed), added=_counted(self.added))

    def write(self, batch: Batch) -> bool:
        """Adds all changed rows to a batch; answers whether there are any."""
        record, view = self.data.record, self.view
        writer = VersionedBatch(batch, view.ancestry.version)
        before = len(batch)
        for key, row in self._lists.items():
            if row.changed or key in self._settled:
                value = codecs.pack(row.packed(), record.compression, record.checksum) if len(row) else b""
                self._store(writer, key, value)
        for zyx, pairs in self._pairs.items():
            key = self.data.rows.bodies + zyx
            if pairs.changed or key in self._settled:
                value = codecs.pack(pairs.packed(), record.compression, record.checksum) if len(pairs) else b""
                self._store(writer, key, value)
        if len(batch) > before and not self._sized:
            batch.put(self.data.rows.size, pack_size(self.size))
        return len(batch) > before

    def _store(self, writer: VersionedBatch, key: bytes, value: bytes) -> None:
        if value:
            writer.put(key, value)
        else:
            erase(self.view, writer, key)


def _counted(located: Sequence[Located]) -> Counted:
    if not located:
        return Counted.none()
    bodies, kinds, places = zip(*located, strict=True)
    return Counted(np.array(bodies, np.uint64), np.array(kinds, np.uint8), points(places))
