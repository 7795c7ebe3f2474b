"""What an instance knows as a whole: the counters of labels, and the extents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dvidcore.datatypes.checks import Examination
from dvidcore.datatypes.labels.checks.repairs import Repairs
from dvidcore.datatypes.labels.writing import counters
from dvidcore.errors import StoreError
from dvidcore.geometry import ZYX
from dvidcore.storage.keys import prefix_range
from dvidcore.storage.versioned import View

if TYPE_CHECKING:
    from dvidcore.datatypes.labels.engine import LabelEngine


def check_counters(data: LabelEngine, exam: Examination, largest: int, bodies: Mapping[int, int]) -> None:
    """No label is above what was given out: ``largest`` of all labels, and by version the largest body that it wrote.

    With ``set-nextlabel`` labels are given out from where it says, so that counts too, as does what was ingested.
    """
    repairs = Repairs(data, exam)
    try:
        now = counters.counters(data, exam.snapshot)
    except StoreError as e:
        exam.found("counters", "the next label", e, f"above {largest}")
        return
    if largest > max(now.maximum, now.next_label, now.ingested):
        exam.found("counters", "the repo-wide maximum", now.maximum, f"at least {largest}", repairable=True)
        repairs.write(data.repo.dag.root.id, lambda tx: tx.raise_maximum(0, largest))
    for version, body in () if data.next_is_counted else sorted(bodies.items()):
        try:
            stored = counters.maximum(data, _view(data, exam, version))
        except StoreError as e:
            exam.found("counters", "the largest label", e, f"at least {body}", version=version)
            continue
        if body > stored:
            exam.found("counters", "the largest label", stored, f"at least {body}", version=version, repairable=True)
            repairs.write(version, lambda tx, body=body: tx.raise_maximum(body))  # type: ignore[misc]


def check_extents(data: LabelEngine, exam: Examination, boxes: Mapping[int, NDArray[np.int64]]) -> None:
    """The extents of each version touch every block that has labels."""
    repairs = Repairs(data, exam)
    lineage = exam.lineage
    own = {
        version for _, entries in exam.grouped(*prefix_range(data.rows.extents), "extents") for version, _ in entries
    }
    block = np.array(data.block, np.int64)
    reach: dict[int, NDArray[np.int64]] = {}
    for version in lineage.versions:
        parts = [reach[parent] for parent in lineage.parents[version] if parent in reach]
        if version in boxes:
            parts.append(boxes[version])
        if not parts:
            continue
        low, high = np.min([p[0] for p in parts], axis=0), np.max([p[1] for p in parts], axis=0)
        reach[version] = np.array([low, high])
        if version not in boxes and version not in own:
            continue
        try:
            stored = counters.extents(data, _view(data, exam, version))
        except StoreError as e:
            exam.found("extents", "the extents", e, "a box", version=version)
            continue
        touched = stored is not None and bool(
            (np.array(stored[0]) <= (low + 1) * block - 1).all() and (np.array(stored[1]) >= high * block).all()
        )
        if not touched:
            whole = tuple((low * block).tolist()), tuple(((high + 1) * block - 1).tolist())
            exam.found(
                "extents", "the extents", _text(stored), f"around {_text(whole)}", version=version, repairable=True
            )
            repairs.write(
                version,
                lambda tx, whole=whole: tx.at_commit(  # type: ignore[misc]
                    lambda now, batch: counters.grow_extents(data, now.view, batch.batch, whole)
                ),
            )


def _view(data: LabelEngine, exam: Examination, version: int) -> View:
    return View(exam.snapshot, data.database.ancestry_for(data.repo, data.repo.dag.nodes[version], data.record))


def _text(box: counters.Box | None) -> str:
    if box is None:
        return "none"
    low, high = (ZYX(*corner).xyz() for corner in box)
    return f"{low} to {high}"
