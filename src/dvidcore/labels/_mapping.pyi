import numpy as np
from numpy.typing import NDArray

Buffer = bytes | memoryview

class Mapping:
    """Which body each supervoxel belongs to, for all versions at once.

    An entry says: from ``version`` on, ``supervoxel`` is part of ``body``. Which entries a version sees is told by
    each call, as ``rank``: uint32, indexed by version; 0 = not visible, else larger = nearer. Of a supervoxel's
    visible entries the nearest wins; without one it is its own body. Versions beyond ``rank`` are not visible.
    Body 0 is allowed (a supervoxel that exists no more); supervoxel 0 is background and always 0.

    Any number of threads may read while one writes: an update or a look-up is seen whole. A writer that waits goes
    before new readers. Takes about 30 bytes an entry while a supervoxel is mapped in one version, 46 or more if in
    further ones; 20-100 ns a look-up beyond the caches.
    """

    def __init__(self, capacity: int = 0) -> None:
        """``capacity``: entries to make room for at once, which makes loading that many in parts twice as fast."""

    def __len__(self) -> int:
        """The number of distinct supervoxels with an entry in any version."""

    @property
    def nbytes(self) -> int:
        """The memory that the table takes, in bytes."""

    def update(self, version: int, supervoxels: NDArray[np.uint64], bodies: NDArray[np.uint64]) -> None:
        """Sets the body of each supervoxel (both uint64 (n,)) in ``version``, replacing an entry of that version.

        Where a supervoxel is listed twice the last one counts. O(n). Raises ValueError, and changes nothing, for
        supervoxel 0, unequal lengths, or a version beyond 2^31 - 2.
        """

    def load(self, rows: list[tuple[bytes, Buffer]], key_offset: int) -> list[tuple[bytes, Buffer]]:
        """Sets what rows of a store say, (key, value) each, with unique keys; answers those of other values, as they are.

        A key has the supervoxel (8 bytes) at ``key_offset`` and after it the version (4 bytes), big-endian; a value is
        the body (8 bytes, little-endian). O(n). Raises ValueError, and changes nothing, for other keys.
        """

    def lookup(
        self, labels: NDArray[np.uint64], rank: NDArray[np.uint32], out: NDArray[np.uint64] | None = None
    ) -> NDArray[np.uint64]:
        """The body of each of ``labels`` (uint64, any shape) as seen through ``rank``; the same shape.

        ``out``: a contiguous uint64 array of that shape to write to, ``labels`` itself too. O(1) a label.
        """

    def mapped(self, labels: NDArray[np.uint64], rank: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Whether each of ``labels`` (uint64, any shape) has an entry that is visible through ``rank``; the same shape.

        True also where the entry maps the supervoxel to itself, which ``lookup`` cannot tell from none. O(1) a label.
        """

    def items(self, rank: NDArray[np.uint32]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """All visible (supervoxels, bodies) that differ, as two uint64 (n,), ascending by supervoxel.

        O(entries + n log n).
        """

    def entries(self) -> dict[int, int]:
        """The number of entries of each version that has some, identities included. O(entries)."""
