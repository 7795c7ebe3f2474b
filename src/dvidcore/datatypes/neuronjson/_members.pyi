import numpy as np
from numpy.typing import NDArray

def members(text: bytes | bytearray | memoryview, start: int, stop: int) -> dict[bytes, bytes]:
    """The members that ``text[start:stop]`` has: a dict of the name of each, in its quotes, and its value.

    text is a buffer; the part of it is a JSON object without its closing brace, or a piece of one that begins with a
    comma, or empty. O(bytes). Raises ValueError where it cannot be split.
    """

class Builder:
    """Makes columns of the members of JSON objects, one object after the other.

    ``without`` is the name of a member, in its quotes, that gets no column.
    """

    def __init__(self, without: bytes) -> None: ...
    def add(self, text: bytes | bytearray | memoryview, start: int, stop: int) -> None:
        """The next object: ``text[start:stop]``, as for ``members``.

        O(bytes). Raises ValueError where it cannot be split, and the builder is of no use any more.
        """

    def columns(
        self,
    ) -> dict[bytes, tuple[dict[bytes | None, int], list[bytes | None], NDArray[np.uint32]]]:
        """The columns of all objects: a dict of name, in its quotes → (codes by value, values by code, rows).

        rows is uint32 (objects,): the code of each object's value, 0 where it has no such member. Values are texts;
        that of code 0 is None.
        """
