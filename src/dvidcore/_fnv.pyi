def fnv1_128(data: bytes | bytearray | memoryview) -> bytes:
    """The FNV-1 hash (128 bits) of a contiguous buffer of bytes as 16 big-endian bytes. O(len(data)); no GIL."""
