from collections.abc import Sequence

def inside(values: Sequence[bytes | memoryview], low: Sequence[int], high: Sequence[int]) -> bytes:
    """The texts, separated by commas, of the elements of lists with ``low <= position <= high`` (z, y, x; int32).

    values are buffers as ``lists.ElementList.packed`` makes them, taken one after the other, each in its order.
    O(elements + bytes answered), without the GIL. Raises ValueError where a table and its texts do not fit each other,
    OverflowError for bounds that are no int32.
    """
