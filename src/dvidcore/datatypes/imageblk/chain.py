"""An instance that shows another at half the resolution, as DVID's users keep scales: ``gray``, ``gray_1``, ``gray_2`` …

Each is made from the one before, in the background, at one version: all of it, or what was changed since an ancestor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvidcore.datatypes.background import Progress, Task
from dvidcore.datatypes.call import JSON, Call
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.imageblk.downres import halved, scale_settings
from dvidcore.datatypes.imageblk.extents import Extents
from dvidcore.datatypes.imageblk.volumes import ImageVolumes
from dvidcore.errors import BadRequest, Locked
from dvidcore.geometry import ZYX
from dvidcore.pool import ordered_map, processors
from dvidcore.storage.keys import VERSION_BYTES, prefix_range, version_bytes, zyx_array
from dvidcore.storage.staged import StagedWrite
from dvidcore.storage.versioned import Ancestry, View

if TYPE_CHECKING:
    from dvidcore.repos import Database, InstanceRecord, Repo

DOWNRES = 5
"""The kind of the row that tells how far the last downres is."""
_STEP = 8 << 20
"""Bytes of blocks that are made between two steps."""


class Chain(ImageVolumes):
    """What makes an instance from a finer one."""

    def __init__(self, database: Database, repo: Repo, record: InstanceRecord) -> None:
        super().__init__(database, repo, record)
        self.downres = Task(self, "downres", DOWNRES)

    @endpoint("GET", "downres", answers=JSON)
    def get_downres(self, call: Call) -> dict[str, Any]:
        """How far the last ``POST downres`` is, in blocks of this instance.

        ``{"State": …, "Done": n, "Total": m, "Source": name, "Version": UUID, "Started": time, "Updated": time}``; the
        State is running, done, failed (with an Error), interrupted (the server ended meanwhile: start it again), or none.
        """
        return self.downres.known()

    @endpoint("POST", "downres", answers=JSON)
    def post_downres(self, call: Call) -> dict[str, Any]:
        """Makes this version from another instance at half the resolution, in the background; answers what GET does.

        The body is ``{"Source": name}``, an instance of the same type and block size: ``gray_1`` from ``gray``, then
        ``gray_2`` from ``gray_1``. Each block that follows from one that the source stores is replaced, with means
        rounded half up, or as this instance's DownresMethod says. With ``"Since": UUID``, an ancestor, only what follows
        from blocks that were written after that version. Blocks become visible in groups; the extents grow to half those
        of the source. 409 while one is running.
        """
        source, since = self._arguments(call)
        ancestry = self.database.ancestry_for(self.repo, call.node, source.record)
        work = _Halving(self, source, call, ancestry)
        total = work.find(since)
        about = {"Source": source.record.name, "Version": call.node.uuid}
        return self.downres.start(about, total, work.run)

    def _arguments(self, call: Call) -> tuple[Chain, int | None]:
        """The source, and the version since which changes matter."""
        body = call.body.json_object()
        if unknown := body.keys() - {"Source", "Since"}:
            raise BadRequest(f'"{min(unknown)[:40]}" is not known; the body is {{"Source": name, "Since": UUID}}')
        name, since = body.get("Source"), body.get("Since")
        if not isinstance(name, str) or not isinstance(since, str | None):
            raise BadRequest('the body must be {"Source": name}, with or without "Since": UUID')
        source = self.instances.named(self.repo, name)
        if source is self or not isinstance(source, Chain) or source.element != self.element:
            raise BadRequest(f'Source: "{name[:60]}" is not another instance of type {self.typename}')
        block = self.stored.block
        if source.stored.block != block or any(n % 2 for n in block):
            raise BadRequest(
                f"Source: the block size of both must be the same and even, not {source.stored.block.xyz()}"
            )
        if self.coarse:
            raise BadRequest("this instance has scales of its own (MaxDownresLevel), which would not follow")
        if since is None:
            return source, None
        _, node = self.database.resolve(since)
        if node.id not in self.database.ancestry_for(self.repo, call.node, self.record).rank or node is call.node:
            raise BadRequest(f'Since: "{since[:60]}" is not an ancestor of version {call.node.uuid}')
        return source, node.id


class _Halving:
    """One downres."""

    def __init__(self, data: Chain, source: Chain, call: Call, ancestry: Ancestry) -> None:
        self._data, self._source = data, source
        self._node, self._admin = call.node, call.admin
        self._target, self._ancestry = call.ancestry, ancestry
        self._blocks: NDArray[np.int64] = np.empty((0, 3), np.int64)

    def find(self, since: int | None) -> int:
        """Finds the blocks that are to be made, from the keys alone; answers their number. O(blocks of the source)."""
        members = set(self._ancestry.rank)
        if since is not None:
            members -= set(self._data.repo.dag.ancestry(since).rank)
        wanted = {version_bytes(version) for version in members}
        prefix = self._source.stored.prefix
        found: list[NDArray[np.int64]] = []
        with self._source.engine.snapshot() as snapshot:
            keys: list[bytes] = []
            for key in snapshot.scan(*prefix_range(prefix), keys_only=True):
                if key[-VERSION_BYTES:] in wanted:
                    keys.append(key)
                if len(keys) >= 1 << 16:
                    found.append(np.unique(zyx_array(keys, len(prefix)).astype(np.int64) // 2, axis=0))
                    keys = []
            found.append(np.unique(zyx_array(keys, len(prefix)).astype(np.int64) // 2, axis=0))
        self._blocks = np.unique(np.concatenate(found), axis=0)
        return len(self._blocks)

    def run(self, progress: Progress) -> None:
        """Makes the blocks, each group from the newest state of the version."""
        stored = self._data.stored
        step = max(1, _STEP // stored.block_bytes)
        for k in range(0, len(self._blocks), step):
            some = [ZYX(*row) for row in self._blocks[k : k + step].tolist()]
            self._make(some)
            progress.advance(len(some))

    def _make(self, some: list[ZYX]) -> None:
        call = Call(self._data.engine, self._node, self._target)
        try:
            with self._source.engine.snapshot() as snapshot, StagedWrite(self._data.engine) as staged:
                view = View(snapshot, self._ancestry)
                for key, value in ordered_map(lambda at: self._made(view, at), some, 4 * processors()):
                    staged.put(key, value)
                self._check_open()
                self._data.commit(call, staged, self._box(some), extents=self._extents(view))
        finally:
            call.close()

    def _made(self, view: View, at: ZYX) -> tuple[bytes, bytes]:
        """A block of the target: its key and stored value."""
        stored, block = self._data.stored, self._data.stored.block
        offset = ZYX(*(2 * c * b for c, b in zip(at, block, strict=True)))
        volume = self._source.stored.read(view, offset, ZYX(*(2 * b for b in block)))
        _, method = scale_settings(self._data.record.settings, self._data.element)
        half = halved(volume, method, self._data.element)
        return stored.key(*at, self._target.version), stored.pack(half.reshape(-1).view(np.uint8).data)

    def _box(self, some: list[ZYX]) -> Extents:
        """The voxels of some blocks, and those between them."""
        low, high = (ZYX(*map(end, zip(*some, strict=True))) for end in (min, max))
        block = self._data.stored.block
        first = ZYX(*(c * b for c, b in zip(low, block, strict=True)))
        return Extents(first, ZYX(*((c + 1) * b - 1 for c, b in zip(high, block, strict=True))))

    def _extents(self, view: View) -> Extents | None:
        """Half those of the source."""
        extents = self._source.extents(view)
        return None if extents is None else Extents(*(ZYX(*(c // 2 for c in end)) for end in extents))

    def _check_open(self) -> None:
        node = self._data.repo.dag.nodes[self._node.id]
        if node.locked and self._data.record.versioned and not self._admin:
            raise Locked(f"version {node.uuid} was committed before all blocks were made")
