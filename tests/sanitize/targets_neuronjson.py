"""What is fuzzed of the kernel of neuronjson."""

import numpy as np
from target import Target

from dvidcore.datatypes.neuronjson._members import Builder, members

TEXTS = [
    b'{"bodyid":7,"a":"text","b":[1,2,{"c":"]"}],"d":1.5',
    b',"a_user":"quote \\" and \\\\","b_user":"",",":{"[":"}"}',
]


def _split(data: bytes) -> object:
    """The bytes are members, in a copy of a length that nothing rounds up."""
    text = memoryview(np.array(bytearray(data), np.uint8)).cast("B") if data else b""
    builder = Builder(b'"bodyid"')
    for _ in range(2):
        builder.add(text, 0, len(text))
    return members(text, 0, len(text)), builder.columns()


TARGETS = [Target("neuronjson members", _split, TEXTS)]
