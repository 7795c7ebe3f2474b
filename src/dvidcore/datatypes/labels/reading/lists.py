"""What is known of bodies and supervoxels without reading voxels: sizes, members, existence, the mapping."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from dvidcore.datatypes.call import Buffer
from dvidcore.datatypes.labels.index import Columns
from dvidcore.datatypes.labels.rows import BODY_OFFSET, INDEX_ZYX_OFFSET
from dvidcore.geometry import UINT64_MAX, ZYX
from dvidcore.labels import totals, unpack_rows
from dvidcore.storage.keys import prefix_end

if TYPE_CHECKING:
    from dvidcore.datatypes.call import Call
    from dvidcore.datatypes.labels.engine import LabelEngine

LISTED = 10_000_000
"""The most bodies that ``listlabels`` answers at once."""
_CHUNK = 50_000
_KEPT = 500_000
"""Bodies that are remembered of a version."""
_ENTRY_BYTES = 30
"""About what the native table takes for an entry (``labels.Mapping``)."""

Labels = NDArray[np.uint64]


def voxels(columns: Columns) -> int:
    return int(columns.counts.sum(dtype=np.uint64))


def members(columns: Columns) -> tuple[Labels, Labels]:
    """(supervoxels, their voxels), ascending by supervoxel."""
    return totals(columns.supervoxels, columns.counts)


def body_sizes(data: LabelEngine, call: Call, bodies: Labels) -> list[int]:
    """The voxels of each body, 0 where it does not exist."""
    out = []
    for body in bodies.tolist():
        record = data.index.record(call.view, body)
        out.append(0 if record is None else record.voxels)
    return out


def supervoxel_sizes(data: LabelEngine, call: Call, supervoxels: Labels) -> list[int]:
    """The voxels of each supervoxel, 0 where it does not exist; the index of each body is looked at once."""
    asked, back = np.unique(supervoxels, return_inverse=True)
    bodies = data.mapping.at(call).bodies(asked)
    sizes = np.zeros(len(asked), np.uint64)
    order = np.argsort(bodies, kind="stable")
    bodies = bodies[order]
    start = 0
    while start < len(order):
        body = bodies[start]
        stop = int(np.searchsorted(bodies, body, "right"))
        columns = data.index.columns(call.view, int(body)) if body else None
        if columns is not None:
            own = order[start:stop]  # stable, so the supervoxels still ascend
            place = np.searchsorted(asked[own], columns.supervoxels)
            place[place == len(own)] = 0
            hit = asked[own][place] == columns.supervoxels
            np.add.at(sizes, own[place[hit]], columns.counts[hit])
        start = stop
    return [int(n) for n in sizes[back]]


def box_of_blocks(columns: Columns, shape: ZYX) -> dict[str, Any]:
    """``GET sparsevol-size``: voxels, blocks, and the box (x, y, z; both ends included) of whole blocks."""
    coords = columns.blocks().astype(np.int64)
    low, high = coords.min(axis=0) * shape, (coords.max(axis=0) + 1) * shape - 1
    return {
        "voxels": voxels(columns),
        "numblocks": len(coords),
        "minvoxel": low[::-1].tolist(),
        "maxvoxel": high[::-1].tolist(),
    }


# -- all bodies --------------------------------------------------------------------------------------------------------


def bodies(
    data: LabelEngine, call: Call, first: int = 0, most: int | None = None, sizes: bool = False
) -> Iterator[NDArray[np.uint64]]:
    """Bodies from ``first`` on, ascending, ``most`` of them if given: arrays (n,), or with ``sizes`` (n, 2).

    The second column are their voxels.
    """
    known = data.known.at(call)
    if known.bodies is None:
        pieces = _scan(data, call, first, most)
        if first <= 1 and (most is None or most > _KEPT):
            start = list(islice(pieces, _KEPT // _CHUNK + 1))
            if len(start) * _CHUNK <= _KEPT:
                known.bodies = np.concatenate(start) if start else np.empty((0, 2), np.uint64)
            pieces = chain(start, pieces)
    else:
        at = int(np.searchsorted(known.bodies[:, 0], np.uint64(first)))
        pieces = iter((known.bodies[at : None if most is None else at + most],))
    for piece in pieces:
        if len(piece):
            yield piece if sizes else np.ascontiguousarray(piece[:, 0])


def _scan(data: LabelEngine, call: Call, first: int, most: int | None) -> Iterator[NDArray[np.uint64]]:
    """The same from the store, (n, 2). A body's record starts with its voxels, so nothing is parsed one by one."""
    if not call.view.ancestry.linear:  # totals may have to be summed up
        pairs = ((body, r.voxels) for body, r in islice(data.index.records(call.view, first), most))
        while some := list(islice(pairs, _CHUNK)):
            yield np.array(some, np.uint64)
        return
    rows = islice(call.view.scan(*data.rows.bodies(first, UINT64_MAX)), most)
    while chunk := list(islice(rows, _CHUNK)):
        keys = np.frombuffer(b"".join([key for key, _ in chunk]), np.uint8).reshape(len(chunk), -1)
        labels = np.ascontiguousarray(keys[:, BODY_OFFSET : BODY_OFFSET + 8]).view(">u8")[:, 0].astype("<u8")
        counts = np.frombuffer(b"".join([bytes(value[:8]) for _, value in chunk]), "<u8")
        yield np.stack((labels, counts), axis=1)


def as_bytes(arrays: Iterator[NDArray[np.uint64]]) -> Iterator[Buffer]:
    return (array.tobytes() for array in arrays)


def as_json(arrays: Iterator[NDArray[np.uint64]]) -> Iterator[Buffer]:
    """All numbers as one JSON list."""
    before = b"["
    for array in arrays:
        yield before
        yield orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
        before = b","
    yield b"[]" if before == b"[" else b"]"


# -- the mapping -------------------------------------------------------------------------------------------------------


def mapping(data: LabelEngine, call: Call, supervoxels: Labels, check: bool) -> list[int]:
    """The body of each supervoxel. With ``check`` one that is not mapped, not even to itself, and not there has 0."""
    mapped = data.mapping.at(call)
    found = mapped.bodies(supervoxels)
    out: list[int] = found.tolist()
    if check:
        own = data.known.at(call).own
        unmapped = np.flatnonzero((found == supervoxels) & ~mapped.has_entry(supervoxels))
        for k, label in zip(unmapped.tolist(), found[unmapped].tolist(), strict=True):
            there = own.get(label)  # which another request may have cleared
            if there is None:
                if len(own) >= _KEPT:
                    own.clear()
                there = own[label] = label != 0 and _holds_itself(data, call, label)
            if not there:
                out[k] = 0
    return out


def _holds_itself(data: LabelEngine, call: Call, label: int) -> bool:
    """Whether a body's index has the supervoxel of the same id; its first row does nearly always."""
    start = data.rows.index(label)
    for key, value in call.view.scan(start, prefix_end(start)):
        _, supervoxels, _, _ = unpack_rows([key], [value], INDEX_ZYX_OFFSET)
        if (supervoxels == np.uint64(label)).any():
            return True
    return False


def complete(data: LabelEngine, call: Call) -> tuple[Labels, Labels]:
    """(supervoxels, bodies) of all supervoxels of all bodies and all entries of the mapping, ascending by supervoxel.

    Beside the entries, what is listed is the supervoxel of a body's own number, which is in it without an entry.
    """
    mapped = data.mapping.at(call)
    supervoxels, to = mapped.items()
    own = [np.empty(0, np.uint64)]
    for some in bodies(data, call):
        alone = some[mapped.bodies(some) == some]
        own.append(alone[[_holds_itself(data, call, body) for body in alone.tolist()]])
    themselves = np.concatenate(own)
    supervoxels, to = np.concatenate((supervoxels, themselves)), np.concatenate((to, themselves))
    order = np.argsort(supervoxels)
    return supervoxels[order], to[order]


def mapping_lines(supervoxels: Labels, bodies: Labels) -> Iterator[Buffer]:
    """``supervoxel body`` a line."""
    for at in range(0, len(supervoxels), _CHUNK):
        pairs = zip(supervoxels[at : at + _CHUNK].tolist(), bodies[at : at + _CHUNK].tolist(), strict=True)
        yield "".join([f"{supervoxel} {body}\n" for supervoxel, body in pairs]).encode()


def pairs(supervoxels: Labels, bodies: Labels) -> Iterator[Buffer]:
    """uint64 supervoxel, uint64 body, and so on."""
    for at in range(0, len(supervoxels), _CHUNK):
        some = slice(at, at + _CHUNK)
        yield np.stack((supervoxels[some], bodies[some]), axis=1).astype("<u8", copy=False).tobytes()


def mapping_statistics(data: LabelEngine, call: Call) -> dict[str, Any]:
    """``GET map-stats``: what this version and its ancestors have in the mapping's table in memory.

    That may be ahead of the request's snapshot.
    """
    table = data.mapping.at(call).table
    versions = {version: n for version, n in table.entries().items() if version in call.ancestry.rank}
    entries = sum(versions.values())
    return {
        "MapEntries": entries,
        "MapSize": f"{_ENTRY_BYTES * entries / 1000:.1f} kB",
        "NumVersions": len(versions),
        "MaxVersion": max(versions, default=0),
    }
