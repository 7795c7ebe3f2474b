"""What is fuzzed of the kernel of annotations."""

import struct

import numpy as np
from target import Target

from dvidcore.datatypes.annotation._select import inside

_LOW, _HIGH = [-(2**31), 0, 0], [2**31 - 1, 10, 10]


def _row(*elements: tuple[int, int, int, bytes]) -> bytes:
    table = [
        struct.pack(">3IB", z + 2**31, y + 2**31, x + 2**31, 1) + struct.pack("<2I", len(text), 0)
        for z, y, x, text in elements
    ]
    return struct.pack("<I", len(elements)) + b"".join(table) + b",".join(text for *_, text in elements)


def _inside(data: bytes) -> object:
    """The bytes are a row beside a whole one, in a copy of a length that nothing rounds up."""
    row = memoryview(np.array(bytearray(data), np.uint8)).cast("B") if data else b""
    return inside([SEEDS[0], row], _LOW, _HIGH)


SEEDS = [
    _row((1, 2, 3, b'{"a":1}'), (-1, 2, 3, b"{}"), (5, 20, 3, b'{"out":1}'), (5, 6, 7, b'{"last":""}')),
    _row((0, 0, 0, b"{}")),
]
TARGETS = [Target("annotation inside", _inside, SEEDS)]
