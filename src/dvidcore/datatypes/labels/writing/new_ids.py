"""The ids of what a split makes: given by the client, who must not give one that exists, or the next ones."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from dvidcore.datatypes.labels.writing import counters
from dvidcore.errors import BadRequest

if TYPE_CHECKING:
    from dvidcore.datatypes.call import Call
    from dvidcore.datatypes.labels.engine import LabelEngine
    from dvidcore.datatypes.labels.writing.transaction import Transaction
    from dvidcore.storage.engine import Snapshot
    from dvidcore.storage.versioned import VersionedBatch


class NewIds:
    """New ids for one transaction, each a different one."""

    def __init__(self, write: Transaction, reserved: Collection[int] = ()) -> None:
        """``reserved`` are those that the client will give: they are not found as the next ones."""
        self._write = write
        self._reserved = frozenset(reserved)
        self._taken: set[int] = set()
        self._given: dict[int, str] = {}

    def choose(self, given: int | None = None, name: str = "") -> int:
        """``given`` or else the next label that does not exist.

        Raises BadRequest for a given one that exists, or that was chosen before, and where no label is left. What was
        given is looked up again at the commit, since another request may have given the same.
        """
        write = self._write
        if given is None:
            return self._next()
        if given in self._taken:
            raise BadRequest(f"{name}: {given} is given to both parts, their ids must differ")
        _refuse_existing(write.data, write.view.snapshot, given, name)
        if not self._given:
            write.at_commit(self._look_again)
        self._given[given] = name
        self._taken.add(given)
        write.raise_maximum(given)
        return given

    def _next(self) -> int:
        write = self._write
        while True:
            (label,) = write.new_labels(1)
            if label not in self._taken | self._reserved:
                self._taken.add(label)
                return label

    def _look_again(self, call: Call, _: VersionedBatch) -> None:
        for label, name in self._given.items():
            _refuse_existing(self._write.data, call.snapshot, label, name)


def _refuse_existing(data: LabelEngine, snapshot: Snapshot, label: int, name: str) -> None:
    if counters.existing(data, snapshot, label, label) is not None:
        raise BadRequest(f"{name}: {label} exists already, as a body or a supervoxel of some version")
