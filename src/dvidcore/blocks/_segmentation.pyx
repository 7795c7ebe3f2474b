"""Label volumes as Neuroglancer's compressed_segmentation."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libcpp.vector cimport vector

from dvidcore.blocks._buffer cimport Buffer
from dvidcore.blocks._layout cimport SIDE

cdef extern from "../blocks/_segmentation.h" namespace "dvidcore" nogil:
    cdef cppclass Segmentation:
        Segmentation() except +
        Segmentation(size_t subblocks) except +
        vector[uint32_t] words
        void add(const uint8_t *voxels, int64_t sy, int64_t sz) except +


def compressed_segmentation(object volume not None):
    """A volume of labels in Neuroglancer's compressed_segmentation format: one channel, sub-blocks of 8x8x8.

    `volume` is uint64 (z, y, x), each side a positive multiple of 8, with contiguous rows and any z and y strides. Each
    sub-block has its own table of labels, in order of first appearance, right after its values. The format is that of
    https://github.com/google/neuroglancer/tree/master/src/sliceview/compressed_segmentation

    Raises ValueError for another shape, type or stride, and where a table would lie beyond what the format's 24-bit
    offsets reach (word 2^24, 64 MB of output). O(voxels) where sub-blocks have few labels.
    """
    cdef Buffer source
    cdef Segmentation encoder
    cdef int64_t sy, sz, nz, ny, nx, z, y, x
    cdef const uint8_t *voxels
    source.volume(volume, False)
    nz, ny, nx = source.shape(0), source.shape(1), source.shape(2)
    if nz % SIDE or ny % SIDE or nx % SIDE or min(nz, ny, nx) == 0:
        raise ValueError(f"a volume of {(nz, ny, nx)} voxels (z, y, x): each side must be a multiple of {SIDE}")
    sz, sy, voxels = source.stride(0), source.stride(1), source.data()
    nz, ny, nx = nz // SIDE, ny // SIDE, nx // SIDE
    with nogil:
        encoder = Segmentation(nz * ny * nx)
        for z in range(nz):
            for y in range(ny):
                for x in range(nx):
                    encoder.add(voxels + SIDE * (z * sz + y * sy + 8 * x), sy, sz)
    return PyBytes_FromStringAndSize(<const char *> encoder.words.data(), 4 * encoder.words.size())
