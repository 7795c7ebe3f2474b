"""What all label types share: an instance's block size and scales, its rows, and the caches over them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from dvidcore.datatypes.base import DataType
from dvidcore.datatypes.call import Call
from dvidcore.datatypes.labels import checks, settling
from dvidcore.datatypes.labels.index import BodyIndex
from dvidcore.datatypes.labels.mapping import MappingCache
from dvidcore.datatypes.labels.reading.known import KnownBodies
from dvidcore.datatypes.labels.rows import Rows
from dvidcore.datatypes.labels.writing.leases import Leases
from dvidcore.datatypes.labels.writing.locks import Locks
from dvidcore.geometry import ZYX
from dvidcore.storage.keys import zyx_key
from dvidcore.storage.versioned import View

if TYPE_CHECKING:
    from dvidcore.datatypes.checks import Examination
    from dvidcore.repos import Database, InstanceRecord, Repo

Stored = bytes | memoryview


class LabelEngine(DataType):
    """The base of the label types: voxels hold supervoxels, a mapping holds bodies, an index says where they are."""

    lock_rank = 2
    derives = True
    next_is_counted: ClassVar[bool] = False
    """Whether new labels come after the largest label that was stored or given to a split, nothing else being said.

    A number that only a merge has as its target is then passed over when new labels reach it.
    """

    def __init__(self, database: Database, repo: Repo, record: InstanceRecord) -> None:
        super().__init__(database, repo, record)
        self.rows = Rows(record.id)
        self.mapping = MappingCache(self.rows)
        self.index = BodyIndex(self.rows)
        self.known = KnownBodies(self.rows)
        self.locks: Locks[ZYX] = Locks()
        """Of tiles, for writers of blocks."""
        self.body_locks: Locks[int] = Locks()
        self.leases = Leases()
        self.commit_lock = self.lock = threading.RLock()
        """Held by the writer that changes the index, the mapping or the counters (``transaction``)."""

    @cached_property
    def block(self) -> ZYX:
        """The block size in voxels; it cannot change."""
        x, y, z = self.record.settings["BlockSize"]
        return ZYX(z, y, x)

    @property
    def scales(self) -> int:
        """The number of coarser scales, ``MaxDownresLevel``."""
        return int(self.record.settings["MaxDownresLevel"])

    @property
    def indexed(self) -> bool:
        return bool(self.record.settings["IndexedLabels"])

    @property
    def counted(self) -> bool:
        """Whether the largest label is kept; also without an index, which is not asked for it."""
        return True

    def has_followers(self) -> bool:
        """Whether an instance is synced with this one."""
        uuid = self.record.data_uuid
        return any(uuid in record.syncs for record in self.repo.instances.values())

    def settle(self, call: Call, order: Mapping[int, int] | None) -> None:
        settling.settle(self, call, order)

    def check(self, exam: Examination) -> None:
        checks.check(self, exam)

    def row_name(self, prefix_key: bytes) -> str:
        return self.rows.name(prefix_key) or super().row_name(prefix_key)

    def get_blocks(self, view: View, scale: int, coords: Sequence[ZYX]) -> list[Stored | None]:
        """The stored blocks at block coordinates of a scale, None where there is none."""
        prefix = self.rows.scale(scale)
        return view.get_many([prefix + zyx_key(*c) for c in coords])
