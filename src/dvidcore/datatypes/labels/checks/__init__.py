"""The check of label instances: blocks, index, totals, mapping, counters, extents and scales must tell the same.

Three passes over the rows, each once in the order of their keys and for all versions together. ``blocks`` counts every
stored block, ``rows`` goes through the index; both add to sums (``fingerprints``) that are 0 where they agree. Only
what is not is looked at row by row (``details``). Memory does not grow with the volume.

Always right must be: blocks decode; rows of the index tell what the blocks hold, under the bodies of the mapping at
that version; totals are the sums of the rows; no label is above the counters; extents touch all blocks. What clients
may post by themselves, coarser scales above all, is noted. A block that is damaged, or in conflict below a merge of
versions, says nothing, so nothing is said of its rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvidcore.datatypes.labels.checks.blocks import BlockPass
from dvidcore.datatypes.labels.checks.details import Details
from dvidcore.datatypes.labels.checks.fingerprints import Sums
from dvidcore.datatypes.labels.checks.mappings import Mappings
from dvidcore.datatypes.labels.checks.rows import RowPass
from dvidcore.datatypes.labels.checks.scales import check_scales
from dvidcore.datatypes.labels.checks.wholes import check_counters, check_extents

if TYPE_CHECKING:
    from dvidcore.datatypes.checks import Examination
    from dvidcore.datatypes.labels.engine import LabelEngine


def check(data: LabelEngine, exam: Examination) -> None:
    """Reports what disagrees in a label instance, and writes what can be recomputed where the examination repairs."""
    mappings = Mappings(data, exam)
    sums = Sums(exam.lineage)
    voxels = BlockPass(data, exam, sums if data.indexed else None)
    voxels.run()
    if data.indexed:
        rows = RowPass(data, exam, mappings, voxels.hidden, sums)
        rows.run()
        details = Details(data, exam, mappings, voxels.hidden, sums=sums)
        for version, key in rows.malformed:
            details.malformed(version, key)
        details.run()
        check_counters(data, exam, max(voxels.largest, rows.largest, mappings.largest), rows.totals.largest)
    check_extents(data, exam, voxels.boxes)
    check_scales(data, exam)
