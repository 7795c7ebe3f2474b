"""Elements as clients send them: checked one by one, and turned into the bytes that they will be answered as."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import orjson

from dvidcore.errors import BadRequest

KINDS = {"Unknown": 0, "PostSyn": 1, "PreSyn": 2, "Gap": 3, "Note": 4}
"""What an element is, and the number that stands for it in rows."""
RELATIONS = frozenset({"UnknownRelationship", "PostSynTo", "PreSynTo", "ConvergentTo", "GroupedWith"})

_BIAS = 0x80000000
_pack_place = struct.Struct(">III").pack
_unpack_place = struct.Struct(">III").unpack

Place = bytes
"""A position as 12 bytes that sort by z, y, x, as ``keys.zyx_key`` makes them."""


class Item(NamedTuple):
    """An element as it is stored."""

    place: Place
    kind: int
    text: bytes
    """Its JSON: ``{"Pos":…,"Kind":…,"Tags":…,"Prop":…,"Rels":…}``, the relationships last."""
    rels: int
    """Bytes at the end of the text that are the relationships and the closing brace; 0 where it has no ``Rels``."""

    @property
    def bare(self) -> Item:
        """The element without ``Rels``, as it is answered by tag and by body."""
        if not self.rels:
            return self
        return Item(self.place, self.kind, self.text[: -self.rels] + b"}", 0)

    def tags(self) -> set[str]:
        return set(orjson.loads(self.text)["Tags"])


def place_of(z: int, y: int, x: int) -> Place:
    """Raises ``struct.error`` outside of int32."""
    return _pack_place(z + _BIAS, y + _BIAS, x + _BIAS)


def position_of(place: Place) -> list[int]:
    """X, Y, Z."""
    z, y, x = _unpack_place(place)
    return [x - _BIAS, y - _BIAS, z - _BIAS]


def make(element: dict[str, Any]) -> Item:
    """The item of a checked element with all its members."""
    x, y, z = element["Pos"]
    head = orjson.dumps({name: element[name] for name in ("Pos", "Kind", "Tags", "Prop")})
    rels = b',"Rels":' + orjson.dumps(element["Rels"]) + b"}"
    return Item(place_of(z, y, x), KINDS[element["Kind"]], head[:-1] + rels, len(rels))


def parse(value: Any, longest_tag: int, where: str = "the body") -> dict[Place, Item]:
    """The elements of a JSON list by place; of a position that is named twice the later counts.

    Raises BadRequest for what is no such list, naming the element by its index and position; ``longest_tag``: bytes.
    """
    if type(value) is not list:
        raise BadRequest(f"{where} must be a JSON list of elements, not {type(value).__name__}")
    items: dict[Place, Item] = {}
    done = 0
    try:
        for element in value:
            item = _item(element, longest_tag)
            items[item.place] = item
            done += 1
    except _Wrong as wrong:
        raise BadRequest(f"{where}: element {done}{_located(value[done])}: {wrong}") from None
    return items


class _Wrong(Exception):
    """What is wrong with an element."""


_NO_RELS = b',"Rels":[]}'


def _item(element: Any, longest_tag: int) -> Item:
    if type(element) is not dict:
        raise _Wrong("it must be a JSON object")
    given = element.get
    pos, kind = given("Pos"), given("Kind")
    place = _place(pos, "Pos")
    code = KINDS.get(kind) if type(kind) is str else None
    if code is None:
        raise _Wrong(f"Kind: {_shown(kind)} is not one of {', '.join(KINDS)}")
    tags = given("Tags")
    if tags:
        if type(tags) is not list:
            raise _Wrong("Tags: a list of texts is needed")
        for tag in tags:
            if type(tag) is not str or not tag:
                raise _Wrong(f"Tags: {_shown(tag)} is not a text with at least one character")
            if "\0" in tag:
                raise _Wrong(f"Tags: {_shown(tag)} must not contain a NUL character")
            if 4 * len(tag) > longest_tag and len(tag.encode()) > longest_tag:
                raise _Wrong(f"Tags: {_shown(tag)} has more than {longest_tag} bytes")
    elif tags is not None and type(tags) is not list:
        raise _Wrong("Tags: a list of texts is needed")
    prop = given("Prop")
    if prop:
        if type(prop) is not dict:
            raise _Wrong("Prop: an object of texts is needed")
        for name, text in prop.items():
            if type(text) is not str:
                raise _Wrong(f"Prop: the value of {_shown(name)} is not a text")
    elif prop is not None and type(prop) is not dict:
        raise _Wrong("Prop: an object of texts is needed")
    rels = given("Rels")
    head = orjson.dumps({"Pos": pos, "Kind": kind, "Tags": tags or [], "Prop": prop or {}})
    tail = b',"Rels":' + orjson.dumps(list(_relations(rels))) + b"}" if rels else _NO_RELS
    if rels is not None and type(rels) is not list:
        raise _Wrong("Rels: a list is needed")
    return Item(place, code, head[:-1] + tail, len(tail))


def _relations(rels: Any) -> Iterator[dict[str, Any]]:
    if type(rels) is not list:
        raise _Wrong("Rels: a list is needed")
    for rel in rels:
        if type(rel) is not dict:
            raise _Wrong('Rels: objects {"Rel": …, "To": […]} are needed')
        name, to = rel.get("Rel"), rel.get("To")
        if type(name) is not str or name not in RELATIONS:
            raise _Wrong(f"Rel: {_shown(name)} is not one of {', '.join(sorted(RELATIONS))}")
        _place(to, "To")
        yield {"Rel": name, "To": to}


def _place(value: Any, name: str) -> Place:
    if type(value) is list and len(value) == 3:
        x, y, z = value
        if type(x) is int and type(y) is int and type(z) is int:
            try:
                return _pack_place(z + _BIAS, y + _BIAS, x + _BIAS)
            except struct.error:
                pass
    raise _Wrong(f"{name}: {_shown(value)} is not a position, three int32")


def _shown(value: Any) -> str:
    """A JSON value for an error message."""
    return orjson.dumps(value).decode()[:60]


def _located(element: Any) -> str:
    position = element.get("Pos") if type(element) is dict else None
    return "" if position is None else f" at {_shown(position)}"


# -- changes -----------------------------------------------------------------------------------------------------------


def names(text: bytes, place: Place) -> bool:
    """Whether a relationship in the JSON of elements points to a place. In a JSON string quotes are escaped."""
    x, y, z = position_of(place)
    return b'"To":[%d,%d,%d]' % (x, y, z) in text


def partners(item: Item) -> list[Place]:
    """The places that an element's relationships point to."""
    return [place_of(z, y, x) for x, y, z in (rel["To"] for rel in orjson.loads(item.text)["Rels"])]


def redirected(item: Item, old: Place, new: Place | None) -> Item:
    """The element with its relationships to ``old`` pointing to ``new`` instead, or gone."""
    element, was = orjson.loads(item.text), position_of(old)
    rels: Iterable[dict[str, Any]] = element["Rels"]
    if new is None:
        element["Rels"] = [rel for rel in rels if rel["To"] != was]
    else:
        element["Rels"] = [{**rel, "To": position_of(new)} if rel["To"] == was else rel for rel in rels]
    return make(element)


def moved(item: Item, place: Place) -> Item:
    """The element at another place; relationships to itself follow."""
    element = orjson.loads(redirected(item, item.place, place).text)
    return make({**element, "Pos": position_of(place)})
