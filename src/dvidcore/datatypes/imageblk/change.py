"""What instances that are synced with an image are told of a write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dvidcore.datatypes.following import Change
from dvidcore.geometry import ZYX


@dataclass(frozen=True, slots=True)
class ImageChange(Change):
    """A write of voxels, all of them from ``low`` up to and including ``high``."""

    low: ZYX
    high: ZYX

    def intent(self) -> Mapping[str, Any]:
        """The box: ``low`` and ``high``, z, y, x."""
        return {"low": list(self.low), "high": list(self.high)}
