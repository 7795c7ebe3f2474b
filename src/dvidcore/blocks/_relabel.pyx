"""Label blocks: giving the voxels of some labels other labels, by whether they lie in runs."""

import numpy as np

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint64_t
from libcpp.vector cimport vector

from dvidcore.blocks._buffer cimport Buffer
from dvidcore.blocks._encode cimport Encoder, LabelTable, finish, thread_encoder
from dvidcore.blocks._layout cimport Block

cdef extern from "../blocks/_relabel.h" namespace "dvidcore" nogil:
    cdef cppclass Marks:
        Marks() except +
        int64_t set(const Block &block, const int32_t *runs, int64_t n) except +
        uint64_t count()

    cdef struct Relabelling:
        const uint64_t *old
        const uint64_t *inside
        const uint64_t *outside
        size_t n

    cdef cppclass Relabeller:
        vector[uint64_t] voxels
        Relabeller() except +
        void run(const Block &block, const Marks &marks, const Relabelling &change, Encoder &encoder) except +

    void labels_along(
        const Block &block, const int32_t *runs, int64_t n, LabelTable &table, vector[uint64_t] &voxels
    ) except +


cdef object run_rows(object runs):
    """The runs as a contiguous int32 array (n, 4)."""
    rows = np.asarray(runs)
    if rows.ndim != 2 or rows.shape[1] != 4 or rows.dtype != np.int32:
        raise ValueError(f"runs must be int32 (n, 4), not {rows.dtype} {rows.shape}")
    return np.ascontiguousarray(rows)


cdef int refuse(object rows, int64_t outside) except -1:
    if outside >= 0:
        raise ValueError(f"run {tuple(rows[outside].tolist())} (x, y, z, length) is not within the block")
    return 0


cdef tuple change_block(object block, object rows, Relabelling change):
    """(the new block, voxels of the old labels uint64 (k, 2), voxels of the runs)."""
    cdef Buffer source
    cdef Block parsed
    cdef Marks marks
    cdef Relabeller relabeller
    cdef Encoder *encoder = &thread_encoder()
    cdef int64_t outside
    cdef uint64_t marked = 0
    cdef size_t i
    source.bytes(block)
    parsed.parse(source.data(), source.size())
    cdef const int32_t[:, ::1] runs = rows
    encoder.start(parsed.gx, parsed.gy, parsed.gz)
    with nogil:
        outside = marks.set(parsed, &runs[0, 0] if runs.shape[0] else NULL, runs.shape[0])
        if outside < 0:
            marked = marks.count()
            relabeller.run(parsed, marks, change, encoder[0])
    refuse(rows, outside)
    counts = np.empty((change.n, 2), np.uint64)
    cdef uint64_t[:, ::1] voxels = counts
    for i in range(change.n):
        voxels[i, 0], voxels[i, 1] = relabeller.voxels[2 * i], relabeller.voxels[2 * i + 1]
    return finish(encoder), counts, marked


def relabel_runs(object block not None, object runs not None, old, new):
    """The coded block in which the voxels of label `old` that lie in the runs have the label `new`, and their number.

    `runs` is int32 (n, 4), each row x, y, z, length in voxels of the block; order is free and runs may overlap. As
    `split_runs` otherwise, where `old` stays outside of the runs.
    """
    cdef Relabelling change
    cdef uint64_t before = old, after = new
    change.old = change.outside = &before
    change.inside = &after
    change.n = 1
    result, voxels, _ = change_block(block, run_rows(runs), change)
    changed = int(voxels[0, 0]) if before != after else 0
    return (result, changed) if changed else (bytes(block), 0)


def split_runs(object block not None, object runs not None, object old not None, object inside not None,
               object outside not None):
    """The coded block in which each voxel of label ``old[i]`` has ``inside[i]`` in the runs and ``outside[i]`` elsewhere.

    `runs` is int32 (n, 4), each row x, y, z, length in voxels of the block; order is free and runs may overlap. `old`,
    `inside` and `outside` are uint64 (k,); no label may be twice in `old`. Other labels stay as they are.

    Answers (block, voxels uint64 (k, 2), marked): of each old label its voxels in the runs and elsewhere, and the number
    of voxels that the runs have, each once. Sub-blocks that lie on one side of the runs get another label list and keep
    their values; those that a run divides are coded anew; the others are copied. The palette lists what sub-blocks
    list, in their order: from a block as `encode` writes it comes one as `encode` writes it.

    Raises ValueError for a corrupt block, for arrays of another type or shape, for a label that is twice in `old`, and
    for a run that is empty or not within the block. O(palette + sub-blocks + runs + voxels of the sub-blocks divided).
    """
    cdef Relabelling change
    columns = [np.ascontiguousarray(column) for column in (old, inside, outside)]
    for column in columns:
        if column.ndim != 1 or column.dtype != np.uint64 or len(column) != len(columns[0]):
            raise ValueError("old, inside and outside must be uint64 of one length")
    if len(np.unique(columns[0])) != len(columns[0]):
        raise ValueError("a label is twice in old")
    cdef const uint64_t[::1] before = columns[0], within = columns[1], without = columns[2]
    change.n = before.shape[0]
    change.old = &before[0] if change.n else NULL
    change.inside = &within[0] if change.n else NULL
    change.outside = &without[0] if change.n else NULL
    return change_block(block, run_rows(runs), change)


def labels_in_runs(object block not None, object runs not None):
    """The labels of a coded block's voxels in the runs, in the order in which they first come, and their voxels.

    `runs` is int32 (n, 4), each row x, y, z, length in voxels of the block. Answers two uint64 arrays (m,); a voxel of
    several runs counts in each. Raises ValueError for a corrupt block, for runs of another type or shape, and for a run
    that is empty or not within the block. O(sub-blocks + voxels of the runs).
    """
    cdef Buffer source
    cdef Block parsed
    cdef Marks marks
    cdef LabelTable table
    cdef vector[uint64_t] voxels
    cdef int64_t outside
    cdef size_t i
    source.bytes(block)
    parsed.parse(source.data(), source.size())
    rows = run_rows(runs)
    cdef const int32_t[:, ::1] given = rows
    with nogil:
        outside = marks.set(parsed, &given[0, 0] if given.shape[0] else NULL, given.shape[0])
        if outside < 0:
            labels_along(parsed, &given[0, 0] if given.shape[0] else NULL, given.shape[0], table, voxels)
    refuse(rows, outside)
    found, counts = np.empty(voxels.size(), np.uint64), np.empty(voxels.size(), np.uint64)
    cdef uint64_t[::1] to_found = found, to_counts = counts
    for i in range(voxels.size()):
        to_found[i], to_counts[i] = table.labels[i], voxels[i]
    return found, counts
