"""What a fuzzed kernel is; modules named ``targets_*.py`` list them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A kernel under fuzzing.

    `call` takes bytes of any kind. `seeds` are valid inputs, from which mutated ones are made. `grow` bounds the bytes
    of an input, so that no call takes long.
    """

    name: str
    call: Callable[[bytes], object]
    seeds: Sequence[bytes]
    grow: int = 1 << 20
