def crc32c_each(values: list[bytes | memoryview], *, accelerated: bool = True) -> list[int]:
    """The CRC-32C (RFC 3720) of each of the contiguous buffers in ``values``, as unsigned 32-bit numbers.

    O(bytes); some 15 GB/s with SSE 4.2, 2 GB/s without, or where ``accelerated`` is false. One release of the GIL for
    the whole list, none where it is short. Raises ``TypeError`` or ``BufferError`` for what is no contiguous buffer.
    """
