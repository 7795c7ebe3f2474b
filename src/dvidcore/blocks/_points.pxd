"""Points and sizes as arguments."""


cdef inline tuple triple(object value, str name):
    """Three integers in the order z, y, x."""
    numbers = tuple([int(number) for number in value])
    if len(numbers) != 3:
        raise ValueError(f"{name} must have 3 numbers (z, y, x), not {len(numbers)}")
    return numbers
