def crc32c(data: bytes | bytearray | memoryview) -> int:
    """The CRC-32C of a contiguous buffer of bytes. O(len(data)); no GIL."""
