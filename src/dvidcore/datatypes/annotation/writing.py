"""Writing elements: each request is one guarded batch of rows, log record and what followers add."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from dvidcore.datatypes import following
from dvidcore.datatypes.annotation import bodies, elements
from dvidcore.datatypes.annotation.edit import Edit
from dvidcore.datatypes.annotation.elements import Item, Place, parse, position_of
from dvidcore.datatypes.annotation.lists import points
from dvidcore.datatypes.annotation.rows import Zyx, pack_u64, unpack_u64
from dvidcore.datatypes.arguments import parse_uint64
from dvidcore.datatypes.call import Call
from dvidcore.errors import BadRequest, GuardFailed
from dvidcore.geometry import ZYX, parse_ints
from dvidcore.mutations import log
from dvidcore.storage.engine import Batch
from dvidcore.storage.keys import zyx_key

if TYPE_CHECKING:
    from dvidcore.datatypes.annotation.datatype import Annotation

T = TypeVar("T")
Step = Callable[[Edit, Call, Batch], T]


def change(
    data: Annotation,
    call: Call,
    make: Step[T],
    action: str,
    message: Mapping[str, Any] | None = None,
    *,
    later: bool = False,
    tell: bool = True,
    always: bool = False,
) -> T:
    """Calls ``make`` to fill an edit of the newest state, and writes it; answers what ``make`` answers.

    Where labels or another process changed meanwhile, ``make`` is called again. What it raises leaves everything as it
    was. ``message`` is what the mutation log holds beside what every record has; None for no record. Raises BadRequest
    where a reload is under way, unless this is ``later`` work on what was asked for before. Without ``tell`` followers
    are to see for themselves. ``always`` raises the generation even where nothing is to be changed.
    """
    if not later:
        following.catch_up(data)
    mutation = data.repo.next_mutation_id()
    with data.lock, ExitStack() as waiting:
        attempts = 0
        while True:
            if attempts == 2:  # labels change faster than this can follow: they wait
                bodies.hold(data, waiting)
            attempts += 1
            view = call.renew()
            if not later and data.reloads.running(view.snapshot, call.version):
                raise BadRequest(
                    f'"{data.record.name}" is being reloaded at this version, and takes no changes until then'
                )
            edit = Edit(data, view)
            batch = Batch()
            answer = make(edit, call, batch)
            guard = finish(data, call, edit, batch, action=action, mutation=mutation, always=always, tell=tell)
            if not len(batch):
                return answer
            whole = None if message is None else {"Action": action, **message}
            records = [] if whole is None else _log(data, call, batch, mutation, whole)
            try:
                data.engine.write(batch, sync=data.database.options.sync, guard=guard)
            except GuardFailed:
                continue
            data.publish(call, records)
            return answer


def finish(
    data: Annotation,
    call: Call,
    edit: Edit,
    batch: Batch,
    *,
    action: str,
    mutation: int,
    always: bool = False,
    tell: bool = True,
) -> following.Guard:
    """Adds an edit's rows, and what followers add, to a batch; answers what it must be guarded with.

    The generation is raised where the edit changes anything, or ``always``.
    """
    guard = {data.rows.generation: _generation(edit)}
    if not edit.write(batch) and not len(batch) and not always:
        return guard
    batch.put(data.rows.generation, pack_u64(unpack_u64(guard[data.rows.generation]) + 1))
    if tell and (edit.removed or edit.added) and data.followers():
        guard |= following.tell(data, call, edit.change(action, mutation), batch)
    return guard


def _generation(edit: Edit) -> bytes | None:
    value = edit.view.snapshot.get(edit.data.rows.generation)
    return None if value is None else bytes(value)


def _log(data: Annotation, call: Call, batch: Batch, mutation: int, message: Mapping[str, Any]) -> list[bytes]:
    record: dict[str, Any] = {**message, "UUID": call.node.uuid, "Timestamp": log.timestamp()}
    if call.user:
        record["User"] = call.user
    return log.append(batch, data.record.id, call.node.id, mutation, [record])


# -- elements ----------------------------------------------------------------------------------------------------------


def post_elements(data: Annotation, call: Call, message: bool) -> None:
    """Stores the elements of the body, each in place of one at its position."""
    items = parse(call.body.json(), data.longest_tag)
    voxels = points(list(items))
    if not items:
        change(data, call, lambda edit, call, batch: None, "element-post")
        return

    def put(edit: Edit, call: Call, batch: Batch) -> None:
        on = bodies.at(data, call, voxels).tolist()
        zyxs = edit.blocks_of(voxels)
        edit.load_blocks(list(dict.fromkeys(zyxs)))
        edit.load_body_rows((body, zyx) for body, zyx in zip(on, zyxs, strict=True) if body)
        for item, zyx, body in zip(items.values(), zyxs, on, strict=True):
            edit.put(item, zyx, body)

    change(data, call, put, "element-post", {"Elements": len(items)} if message else None)


def delete_element(data: Annotation, call: Call, position: ZYX, message: bool) -> None:
    """Removes an element, and the relationships to it in its block and in those of the places that it is related to."""
    place = elements.place_of(*position)

    def take(edit: Edit, call: Call, batch: Batch) -> None:
        zyx = edit.block_of(place)
        item = edit.take(place, zyx)
        if item is None:
            raise BadRequest(f"there is no element at {position.xyz()}")
        _redirect(edit, item, zyx, None)

    change(data, call, take, "element-delete", {"Point": position.xyz()} if message else None)


def move_element(data: Annotation, call: Call, start: ZYX, end: ZYX, message: bool) -> None:
    """Moves an element, and the relationships to it as ``delete_element`` finds them."""
    old, new = elements.place_of(*start), elements.place_of(*end)

    def move(edit: Edit, call: Call, batch: Batch) -> None:
        here, there = edit.block_of(old), edit.block_of(new)
        if edit.block(here).get(old) is None:
            raise BadRequest(f"there is no element at {start.xyz()}")
        if old == new:
            return
        if new in edit.block(there):
            raise BadRequest(f"there is an element at {end.xyz()} already")
        item = edit.take(old, here)
        assert item is not None
        body = int(bodies.at(data, call, points([new]))[0])
        edit.put(elements.moved(item, new), there, body)
        _redirect(edit, item, here, new)

    message_of = {"From": start.xyz(), "To": end.xyz()}
    change(data, call, move, "element-move", message_of if message else None)


def _redirect(edit: Edit, item: Item, zyx: Zyx, new: Place | None) -> None:
    """Has relationships to an element that was taken out of a block point to another place, or go."""
    blocks = {zyx, *map(edit.block_of, elements.partners(item))}
    edit.load([edit.data.rows.block + at for at in blocks])
    for block in map(edit.block, blocks):
        if elements.names(bytes(block.whole_text()), item.place):
            for other in [one for one in block if elements.names(one.text, item.place)]:
                block.put(elements.redirected(other, item.place, new))


# -- as they are -------------------------------------------------------------------------------------------------------


def post_blocks(data: Annotation, call: Call, message: bool) -> None:
    """Replaces the blocks of the body, and neither tags nor bodies."""
    given = {name: _block(name, value, data) for name, value in call.body.json_object().items()}

    def replace(edit: Edit, call: Call, batch: Batch) -> None:
        edit.overrides = (data.rows.block,)
        wanted = {zyx_key(*block): (name, items) for name, (block, items) in given.items()}
        edit.load([data.rows.block + zyx for zyx in wanted])
        for zyx, (name, items) in wanted.items():
            row = edit.block(zyx)
            if items:
                inside = edit.blocks_of(points(list(items)))
                for place, block in zip(items, inside, strict=True):
                    if block != zyx:
                        raise BadRequest(
                            f'block "{name}": the element at {position_of(place)} lies in another block; blocks have '
                            f"{edit.size.xyz()} voxels"
                        )
            for place in row.places():
                if place not in items:
                    row.pop(place)
            for item in items.values():
                row.put(item)

    change(data, call, replace, "blocks-post", {"Blocks": len(given)} if message else None)


def _block(name: str, value: Any, data: Annotation) -> tuple[ZYX, dict[Place, Item]]:
    x, y, z = parse_ints(name, "block", 3, ",")
    return ZYX(z, y, x), parse([] if value is None else value, data.longest_tag, f'block "{name}"')


def post_labels(data: Annotation, call: Call) -> None:
    """Replaces the index entries of the bodies in the body of the request."""
    given: dict[int, dict[Place, Item]] = {}
    for name, value in call.body.json_object().items():
        label = parse_uint64(name, "label")
        if type(value) is not str:
            raise BadRequest(f"label {label}: the value must be a text, the JSON of a list of elements")
        try:
            found = parse(orjson.loads(value or b"null"), data.longest_tag, f"label {label}")
        except orjson.JSONDecodeError as e:
            raise BadRequest(f"label {label}: the text is not valid JSON: {e}") from None
        if label:
            given[label] = found

    def replace(edit: Edit, call: Call, batch: Batch) -> None:
        for body, items in given.items():
            for zyx, row in list(edit.rows_of_body(body)):
                for place in row.places():
                    if place not in items:
                        edit.unindex(place, zyx, body)
            for item, zyx in zip(items.values(), edit.blocks_of(points(list(items))), strict=True):
                edit.index(item.bare, zyx, body)

    change(data, call, replace, "labels-post")
