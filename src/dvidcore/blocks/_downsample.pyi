from collections.abc import Sequence

from typing_extensions import Buffer

def downsample(
    children: Sequence[Buffer | None],
    parent: Buffer | None = None,
    shape: Sequence[int] | None = None,
    zeros: bool = False,
) -> bytes: ...
