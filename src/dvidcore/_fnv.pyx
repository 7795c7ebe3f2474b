"""FNV-1 of 128 bits, the hash that names blobs.

Source: G. Fowler, L. C. Noll, K.-P. Vo, D. Eastlake, "The FNV Non-Cryptographic Hash Algorithm"
(draft-eastlake-fnv): offset basis 0x6c62272e07bb014262b821756295c58d, prime 2**88 + 0x13b, and per byte first the
multiplication, then the exclusive or (FNV-1, not FNV-1a).
"""

from libc.stdint cimport uint8_t, uint64_t


def fnv1_128(data) -> bytes:
    """The hash of a contiguous buffer of bytes as 16 big-endian bytes. O(len(data)); the GIL is released."""
    cdef const uint8_t[::1] view = memoryview(data).cast("B")
    cdef Py_ssize_t i, size = view.shape[0]
    # 128-bit arithmetic on two halves: h * (2**88 + 0x13b) = h * 0x13b + (low << 24 in the high half).
    cdef uint64_t high = 0x6C62272E07BB0142ULL, low = 0x62B821756295C58DULL, carry
    with nogil:
        for i in range(size):
            carry = ((low >> 32) * 0x13B + ((low & 0xFFFFFFFFULL) * 0x13B >> 32)) >> 32
            high = high * 0x13B + carry + (low << 24)
            low = low * 0x13B ^ view[i]
    return int(high).to_bytes(8, "big") + int(low).to_bytes(8, "big")
