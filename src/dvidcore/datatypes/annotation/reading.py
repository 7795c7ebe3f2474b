"""Answers: the stored JSON of rows, joined."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson

from dvidcore import codecs
from dvidcore.datatypes.annotation.elements import Item, Place, place_of
from dvidcore.datatypes.annotation.lists import ElementList, inside, points, texts
from dvidcore.datatypes.annotation.rows import Zyx, block_of
from dvidcore.datatypes.call import JSON, Buffer, Reply
from dvidcore.geometry import INT32_MAX, INT32_MIN, ZYX, BlockBox
from dvidcore.storage.keys import kind_range, prefix_end, prefix_range, zyx_array, zyx_key, zyx_keys, zyx_of
from dvidcore.storage.versioned import View

if TYPE_CHECKING:
    from dvidcore.datatypes.annotation.datatype import Annotation
    from dvidcore.datatypes.roi.region import Region

WHOLE = 16 << 20
"""Answers up to this size are one buffer; larger ones are sent as they are made."""
_ROWS = 1000
"""Rows whose elements are handled together."""
_LOOKED_UP = 512
"""Up to so many blocks of a box are looked up one by one; a look-up takes a fifth of the start of a scan."""

Value = bytes | memoryview
Row = tuple[bytes, Value]


def answer(pieces: Iterable[Buffer], brackets: bytes = b"[]") -> Reply:
    """A JSON list of pieces that are elements separated by commas; with ``brackets`` an object of members."""
    source = iter(pieces)
    kept, length = list[Buffer](), 0
    for piece in source:
        kept.append(piece)
        length += len(piece)
        if length > WHOLE:
            return Reply(_stream(kept, source, brackets), JSON)
    return Reply(b"".join((brackets[:1], b",".join(kept), brackets[1:])), JSON)


def _stream(kept: list[Buffer], source: Iterator[Buffer], brackets: bytes) -> Iterator[Buffer]:
    yield brackets[:1] + b",".join(kept)
    kept.clear()
    while some := list(islice(source, _ROWS)):
        yield b"," + b",".join(some)
    yield brackets[1:]


# -- by place ----------------------------------------------------------------------------------------------------------


def box_rows(data: Annotation, view: View, offset: ZYX, size: ZYX) -> Iterator[Row]:
    """(prefix key, value) of the blocks that a box of voxels touches, in Z, Y, X order."""
    fitted = tuple(min(n, INT32_MAX - o + 1) for o, n in zip(offset, size, strict=True))
    box = BlockBox.covering(offset, fitted, data.block_size(view.snapshot))
    prefix = data.rows.block
    if math.prod(box.shape) > _LOOKED_UP:
        yield from view.snapshot.load_rows(_box_stubs(prefix, view, box))
        return
    keys = [prefix + zyx_key(*coord) for coord in box.coords()]
    for key, value in zip(keys, view.get_many(keys), strict=True):
        if value is not None:
            yield key, value


def _box_stubs(prefix: bytes, view: View, box: BlockBox) -> Iterator[Row]:
    """What ``box_rows`` answers before the values are read, by scanning.

    From a block outside of the box it goes on to the next place inside, so it costs no more than the rows of blocks
    that are stored there, however large the box is.
    """
    low, high = box
    stop = prefix_end(prefix + zyx_key(*high))
    at: ZYX | None = low
    while at is not None:
        start, at = prefix + zyx_key(*at), None
        for key, stub in view.stubs(start, stop):
            z, y, x = zyx_of(key)
            if not (low.y <= y <= high.y and low.x <= x <= high.x):
                at = box.next_inside(z, y, x)
                break
            yield key, stub


def elements_in(data: Annotation, view: View, offset: ZYX, size: ZYX) -> Reply:
    """The elements in a box of voxels."""
    high = [min(o + n - 1, INT32_MAX) for o, n in zip(offset, size, strict=True)]
    rows = box_rows(data, view, offset, size)

    def pieces() -> Iterator[Buffer]:
        while some := list(islice(rows, _ROWS)):
            found = inside([codecs.unpack(value) for _, value in some], offset, high)
            if found:
                yield found

    return answer(pieces())


def as_blocks(rows: Iterable[Row]) -> Reply:
    """BLOCK rows as ``{"x,y,z": […], …}``."""

    def members() -> Iterator[Buffer]:
        for key, value in rows:
            z, y, x = zyx_of(key)
            yield b"".join((b'"%d,%d,%d":[' % (x, y, z), texts(codecs.unpack(value)), b"]"))

    return answer(members(), b"{}")


def all_rows(data: Annotation, view: View) -> Iterator[Row]:
    """(prefix key, value) of all BLOCK rows."""
    return view.scan(*prefix_range(data.rows.block))


def elements_of_region(data: Annotation, view: View, region: Region) -> Reply:
    """The elements in the blocks of a region, whose blocks are those of the instance."""
    first, last = region.spans.z_range
    if first > last:
        return answer([])
    start = data.rows.block + zyx_key(first, INT32_MIN, INT32_MIN)
    stop = prefix_end(data.rows.block + zyx_key(last, INT32_MAX, INT32_MAX))

    def chosen() -> Iterator[Row]:
        stubs = view.stubs(start, stop)
        while some := list(islice(stubs, _ROWS)):
            within = region.spans.contains(zyx_array([key for key, _ in some]).astype("int64"))
            yield from (row for row, wanted in zip(some, within.tolist(), strict=True) if wanted)

    return answer(texts(codecs.unpack(value)) for _, value in view.snapshot.load_rows(chosen()))


def count_blocks(data: Annotation, view: View) -> dict[str, int]:
    """``GET scan``."""
    found = sum(1 for _ in view.keys(*kind_range(data.record.id, data.rows.block[-1])))
    return {"num kv pairs": found, "num empty blocks": 0}


# -- by tag and by body ------------------------------------------------------------------------------------------------


def indexed(data: Annotation, view: View, prefix: bytes, relationships: str) -> Reply:
    """The elements of all rows of a tag or a body, whose keys start with ``prefix``.

    ``relationships``: empty, ``true`` for elements with ``Rels``, or ``verbose`` for ``Rels`` that say what the partners
    are.
    """
    rows = view.scan(*prefix_range(prefix))
    if not relationships:
        return answer(texts(codecs.unpack(value)) for _, value in rows)
    return answer(_related(data, view, rows, relationships == "verbose"))


def _related(data: Annotation, view: View, rows: Iterator[Row], verbose: bool) -> Iterator[Buffer]:
    """The JSON of the elements that rows name, as their blocks hold them now."""
    while some := list(islice(rows, _ROWS)):
        blocks = _blocks(data, view, {block_of(key) for key, _ in some})
        found = []
        for key, value in some:
            block = blocks[block_of(key)]
            found += [item for place in ElementList(codecs.unpack(value)).places() if (item := block.get(place))]
        if verbose:
            yield from _verbose(data, view, found)
        else:
            yield from (item.text for item in found)


def _blocks(data: Annotation, view: View, zyxs: Iterable[Zyx]) -> dict[Zyx, ElementList]:
    ordered = sorted(zyxs)
    values = view.get_many([data.rows.block + zyx for zyx in ordered])
    return {
        zyx: ElementList(None if value is None else codecs.unpack(value))
        for zyx, value in zip(ordered, values, strict=True)
    }


def _verbose(data: Annotation, view: View, items: Sequence[Item]) -> Iterator[bytes]:
    """Elements whose relationships carry the kind, tags and properties of the partner, where there is one."""
    parsed: list[dict[str, Any]] = [orjson.loads(item.text) for item in items]
    partners: dict[Place, Zyx] = {}
    wanted = {place_of(z, y, x) for element in parsed for x, y, z in (rel["To"] for rel in element["Rels"])}
    if wanted:
        ordered = list(wanted)
        size = data.block_size(view.snapshot)
        partners = dict(zip(ordered, zyx_keys(points(ordered) // size), strict=True))
    blocks = _blocks(data, view, set(partners.values()))
    known = {place: _summary(blocks[zyx].get(place)) for place, zyx in partners.items()}
    for element in parsed:
        for rel in element["Rels"]:
            x, y, z = rel["To"]
            rel |= known[place_of(z, y, x)]
        yield orjson.dumps(element)


def _summary(item: Item | None) -> dict[str, Any]:
    """What a verbose relationship says of the partner."""
    if item is None:
        return {}
    partner = orjson.loads(item.text)
    said = {name: partner[name] for name in ("Kind", "Tags", "Prop") if partner[name]}
    if said["Kind"] == "Unknown":
        del said["Kind"]
    return said
