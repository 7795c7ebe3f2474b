"""What a labelmap is created with and what ``info`` and ``metadata`` show: sizes, units, extents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from dvidcore.datatypes.base import Setting
from dvidcore.datatypes.labels.writing import counters
from dvidcore.datatypes.labels.writing.transaction import write
from dvidcore.datatypes.voxel_settings import (
    GRID_STORE,
    MAX_POINT,
    MIN_POINT,
    SCALE_LEVEL,
    VOXEL_SIZE,
    VOXEL_UNITS,
    background,
    block_size,
    check_extents,
    check_first_extents,
    parse_label_block_size,
    shown,
    voxel_size,
)
from dvidcore.errors import BadRequest
from dvidcore.geometry import ZYX, parse_int

if TYPE_CHECKING:
    from dvidcore.datatypes.call import Call
    from dvidcore.datatypes.labels.engine import LabelEngine
    from dvidcore.storage.versioned import View

METADATA = "application/vnd.dvid-nd-data+json"


def parse_bool(text: str, name: str) -> bool:
    """``true``, ``false``, ``1`` or ``0``, in any case."""
    word = text.lower()
    if word not in ("true", "1", "false", "0"):
        raise BadRequest(f'{name}: "{text[:40]}" is not one of true, 1, false, 0')
    return word in ("true", "1")


def parse_scales(text: str, name: str) -> int:
    """The number of coarser scales, 0 to 255."""
    return parse_int(text, name, 0, 255)


BACKGROUND = background("kept and shown, without effect: absent space is 0")
SETTINGS = (
    block_size([64, 64, 64], parse_label_block_size),
    VOXEL_SIZE,
    VOXEL_UNITS,
    Setting("IndexedLabels", "IndexedLabels", True, parse_bool, "false: no label index"),
    Setting("MaxDownresLevel", "MaxDownresLevel", 0, parse_scales, "number of coarser scales, 0 to 255"),
    MIN_POINT,
    MAX_POINT,
    BACKGROUND,
    GRID_STORE,
    SCALE_LEVEL,
)
_CHANGEABLE = ("VoxelSize", "VoxelUnits", "MaxDownresLevel", "MinPoint", "MaxPoint", "Background", "ScaleLevel")


# -- what info and metadata show ----------------------------------------------------------------------------------------


def numbers(values: Iterable[float]) -> list[float | int]:
    """As JSON should show them: whole numbers without a point."""
    return [shown(v) for v in map(float, values)]


def geometry(data: LabelEngine, box: counters.Box | None) -> dict[str, Any]:
    """What all label types with voxels show of theirs, with extents (z, y, x) where there are some."""
    settings = data.record.settings
    points: dict[str, Any] = dict.fromkeys(("MinPoint", "MaxPoint", "MinIndex", "MaxIndex"))
    for end, corner in zip(("Min", "Max"), box or (), strict=False):
        points[f"{end}Point"] = ZYX(*corner).xyz()
        points[f"{end}Index"] = ZYX(*(c // b for c, b in zip(corner, data.block, strict=True))).xyz()
    return {
        "Values": [{"DataType": "uint64", "Label": data.typename}],
        "Interpolable": False,
        "BlockSize": settings["BlockSize"],
        "VoxelSize": numbers(settings["VoxelSize"]),
        "VoxelUnits": settings["VoxelUnits"],
        **points,
        "Background": settings.get("Background", 0),
        "GridStore": settings["GridStore"],
        "ScaleLevel": settings.get("ScaleLevel", 0),
    }


def extended(data: LabelEngine, view: View) -> dict[str, Any]:
    """The ``Extended`` object of ``info``."""
    now = counters.counters(data, view.snapshot)
    ceiling = {"NextLabelCeiling": now.ceiling} if now.ceiling else {}
    return {
        **geometry(data, counters.extents(data, view)),
        "MaxLabel": {str(version): label for version, label in counters.maxima(data, view.snapshot).items()},
        "MaxRepoLabel": now.maximum,
        "NextLabel": now.next_label,
        **ceiling,
        "IndexedLabels": data.indexed,
        "MaxDownresLevel": data.scales,
    }


def extents_info(data: LabelEngine, view: View) -> dict[str, Any]:
    """The ``Extents`` object of ``info``: the lowest and highest voxel, x, y, z."""
    box = counters.extents(data, view)
    low, high = (None, None) if box is None else (ZYX(*corner).xyz() for corner in box)
    return {"MinPoint": low, "MaxPoint": high}


def metadata(data: LabelEngine, view: View) -> dict[str, Any]:
    """``GET metadata``: the axes and their extents, and what ``Extended`` of ``info`` starts with."""
    settings = data.record.settings
    box = counters.extents(data, view)
    low, high = ((0, 0, 0), (-1, -1, -1)) if box is None else box
    axes = [
        {
            "Label": axis,
            "Resolution": numbers(settings["VoxelSize"])[k],
            "Units": settings["VoxelUnits"][k],
            "Size": high[2 - k] - low[2 - k] + 1,
            "Offset": low[2 - k],
        }
        for k, axis in enumerate("XYZ")
    ]
    return {"Axes": axes, "Properties": geometry(data, box)}


# -- changes -----------------------------------------------------------------------------------------------------------


def set_extents(data: LabelEngine, call: Call, low: list[int], high: list[int]) -> None:
    """Replaces the extents of the version by the box from ``low`` to ``high`` (x, y, z; both included)."""
    (az, ay, ax), (bz, by, bx) = low[::-1], high[::-1]
    box = (az, ay, ax), (bz, by, bx)
    write(
        data,
        call,
        lambda change: counters.set_extents(data, change.view, change.batch.batch, box),
        labels_stay=True,
    )


def post_extents(data: LabelEngine, call: Call) -> None:
    """``POST extents``: ``{"MinPoint": [x, y, z], "MaxPoint": [x, y, z]}``."""
    set_extents(data, call, *check_extents(call.body.json()))


def post_resolution(data: LabelEngine, call: Call) -> None:
    """``POST resolution``: ``[x, y, z]``."""
    sides = voxel_size(call.body.json(), "resolution")
    data.database.update_instance(data.repo, data.record, settings=lambda now: {**now.settings, "VoxelSize": sides})


def post_info(data: LabelEngine, call: Call) -> str:
    """``POST info``: settings by name (in any case), values are strings as at creation. Answers what was changed."""
    given: dict[str, Any] = {}
    for key, value in call.body.json_object().items():
        name = next((s for s in SETTINGS if s.name.lower() == key.lower()), None)
        if name is None:
            continue
        if name.name not in _CHANGEABLE:
            raise BadRequest(f"{name.name} cannot be changed, only {', '.join(_CHANGEABLE)}")
        if not isinstance(value, str):
            raise BadRequest(f"{name.name}: the value must be a string")
        given[name.key] = name.parse(value, name.name)
    corners = {name: given.pop(name, None) for name in ("MinPoint", "MaxPoint")}
    check_first_extents(corners)
    low, high = corners.values()
    if low is not None and high is not None:
        set_extents(data, call, low, high)
    if given:
        data.database.update_instance(data.repo, data.record, settings=lambda now: {**now.settings, **given})
    changed = [*given, *(["MinPoint", "MaxPoint"] if low is not None else [])]
    return f"Changed {', '.join(changed) or 'nothing'} of {data.record.name}\n"
