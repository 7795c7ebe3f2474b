"""CRC-32C (Castagnoli), the checksum in DVID's mutation log files.

Source: RFC 3720, appendix B.4 (reflected polynomial 0x82f63b78), eight bytes at a time by tables: M. E. Kounavis,
F. L. Berry, "A systematic approach to building high performance software-based CRC generators" (2005).
"""

from libc.stdint cimport uint8_t, uint32_t

cdef uint32_t table[8][256]


cdef void fill() noexcept:
    cdef uint32_t i, j, crc
    for i in range(256):
        crc = i
        for j in range(8):
            crc = (crc >> 1) ^ (0x82F63B78U if crc & 1 else 0)
        table[0][i] = crc
    for i in range(256):
        for j in range(1, 8):
            table[j][i] = (table[j - 1][i] >> 8) ^ table[0][table[j - 1][i] & 0xFF]


fill()


def crc32c(data) -> int:
    """The CRC-32C of a contiguous buffer of bytes. O(len(data)); the GIL is released."""
    cdef const uint8_t[::1] view = memoryview(data).cast("B")
    cdef Py_ssize_t i = 0, size = view.shape[0]
    cdef uint32_t crc = 0xFFFFFFFFU
    with nogil:
        while i + 8 <= size:
            crc ^= view[i] | <uint32_t>view[i + 1] << 8 | <uint32_t>view[i + 2] << 16 | <uint32_t>view[i + 3] << 24
            crc = (
                table[7][crc & 0xFF] ^ table[6][crc >> 8 & 0xFF] ^ table[5][crc >> 16 & 0xFF] ^ table[4][crc >> 24]
                ^ table[3][view[i + 4]] ^ table[2][view[i + 5]] ^ table[1][view[i + 6]] ^ table[0][view[i + 7]]
            )
            i += 8
        while i < size:
            crc = (crc >> 8) ^ table[0][(crc ^ view[i]) & 0xFF]
            i += 1
    return crc ^ 0xFFFFFFFFU
