"""Label blocks: the next coarser scale."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libcpp cimport bool
from libcpp.vector cimport vector

from dvidcore.blocks._buffer cimport Buffer
from dvidcore.blocks._encode cimport Encoder, finish, thread_encoder
from dvidcore.blocks._layout cimport SIDE, Block, SubBlock, index_subblocks
from dvidcore.blocks._points cimport triple

cdef extern from "../blocks/_vote.h" namespace "dvidcore" nogil:
    cdef enum class Vote:
        labels
        values

    void halve(const Block &block, const SubBlock &sub, Vote vote, uint64_t *out, int sy, int sz) except +

cdef extern from "../blocks/_expand.h" namespace "dvidcore" nogil:
    void expand(const Block &block, const SubBlock &sub, uint8_t *out, int64_t sy, int64_t sz) except +

cdef extern from "../blocks/_order.h" namespace "dvidcore" nogil:
    bool listed_in_order(const Block &block, const SubBlock &sub) except +


cdef inline bool solid(const SubBlock &sub) noexcept nogil:
    return sub.bits == 0


cdef inline uint64_t solid_label(const Block &block, const SubBlock &sub) noexcept nogil:
    return 0 if sub.labels == 0 else block.label(sub.position(0))


cdef int add_halved(
    Encoder *encoder, const Block &child, const SubBlock *subs, Vote vote, int64_t z, int64_t y, int64_t x
) except -1 nogil:
    """The sub-block (z, y, x) of the octant that `child` becomes: from eight of the child's sub-blocks."""
    cdef uint64_t[512] voxels
    cdef const SubBlock *sub
    cdef uint64_t label = 0
    cdef bool same = True
    cdef int k
    cdef const SubBlock *at[8]
    for k in range(8):
        at[k] = sub = subs + ((2 * z + (k >> 2)) * child.gy + 2 * y + ((k >> 1) & 1)) * child.gx + 2 * x + (k & 1)
        if same and solid(sub[0]):
            if k == 0:
                label = solid_label(child, sub[0])
            same = solid_label(child, sub[0]) == label
        else:
            same = False
    if same:
        encoder.add_solid(label)
        return 0
    for k in range(8):
        halve(child, at[k][0], vote, voxels + 256 * (k >> 2) + 32 * ((k >> 1) & 1) + 4 * (k & 1), 8, 64)
    encoder.add(<uint8_t *> voxels, 64, 512)
    return 0


def downsample(object children not None, object parent=None, object shape=None, bool zeros=False):
    """The coded block of the next coarser scale from the eight below it.

    `children` are 8 coded blocks in Z, Y, X order (number 4*dz + 2*dy + dx), all of one shape, whose sides must be
    multiples of 16. Each becomes an octant: of every 2x2x2 voxels the most frequent label that is not 0, on a tie the
    numerically smallest; 0 only if all eight are 0. Where a child is None, the octant keeps the voxels of `parent`, the
    coded block that is replaced, or is 0 without one. `shape` (z, y, x) is needed only where all are None. With
    `zeros` 0 is a label like any other, and on a tie the numerically largest wins.

    The answer is what `encode` gives for its voxels. Children are voted on sub-block by sub-block, and those of one
    label are not unpacked. Raises ValueError for corrupt blocks or shapes that differ. O(voxels of the children).
    """
    cdef Buffer[9] sources
    cdef Block[9] blocks
    cdef bool[9] there
    cdef vector[SubBlock] subs[9]
    cdef Encoder *encoder = &thread_encoder()
    cdef uint64_t[512] voxels
    cdef int64_t gz = 0, gy = 0, gx = 0, z, y, x
    cdef const SubBlock *sub
    cdef Vote vote = Vote.values if zeros else Vote.labels
    cdef int k
    items = list(children)
    if len(items) != 8:
        raise ValueError(f"a block is made from 8 octants, not {len(items)}")
    if shape is not None:
        nz, ny, nx = triple(shape, "shape")
        if nz % 16 or ny % 16 or nx % 16:
            raise ValueError(f"a block of {(nz, ny, nx)} voxels (z, y, x): each side must be a multiple of 16")
        gz, gy, gx = nz // SIDE, ny // SIDE, nx // SIDE
    items.append(parent)
    for k in range(9):
        there[k] = items[k] is not None
        if not there[k]:
            continue
        sources[k].bytes(items[k])
        blocks[k].parse(sources[k].data(), sources[k].size())
        if gz == 0:
            gz, gy, gx = blocks[k].gz, blocks[k].gy, blocks[k].gx
        if blocks[k].gz != gz or blocks[k].gy != gy or blocks[k].gx != gx:
            raise ValueError(
                f"a block of {(SIDE * blocks[k].gz, SIDE * blocks[k].gy, SIDE * blocks[k].gx)} voxels (z, y, x) "
                f"where {(SIDE * gz, SIDE * gy, SIDE * gx)} are expected"
            )
    if gz == 0:
        raise ValueError("no octant and no parent: the shape of the block must be given")
    if gz % 2 or gy % 2 or gx % 2:
        raise ValueError(
            f"a block of {(SIDE * gz, SIDE * gy, SIDE * gx)} voxels (z, y, x): each side must be a multiple of 16"
        )
    encoder.start(gx, gy, gz)
    with nogil:
        for k in range(9):
            if there[k]:
                index_subblocks(blocks[k], subs[k])
        for z in range(gz):
            for y in range(gy):
                for x in range(gx):
                    k = 4 * (2 * z >= gz) + 2 * (2 * y >= gy) + (2 * x >= gx)
                    if there[k]:
                        add_halved(
                            encoder, blocks[k], subs[k].data(), vote, z % (gz // 2), y % (gy // 2), x % (gx // 2)
                        )
                    elif there[8]:
                        sub = &subs[8][(z * gy + y) * gx + x]
                        if solid(sub[0]):
                            encoder.add_solid(solid_label(blocks[8], sub[0]))
                        elif listed_in_order(blocks[8], sub[0]):
                            encoder.add_coded(blocks[8], sub[0])
                        else:
                            # Coded anew, since a stored block may list labels twice, or not in order.
                            expand(blocks[8], sub[0], <uint8_t *> voxels, 64, 512)
                            encoder.add(<uint8_t *> voxels, 64, 512)
                    else:
                        encoder.add_solid(0)
    return finish(encoder)
