"""What a volume elsewhere is: its format, its scales, and which axis of its arrays is which.

Found out once, when an instance is created, and kept in its settings: what an instance says about itself never waits
for another service. The formats: neuroglancer's precomputed, zarr of version 2 and 3 with or without OME-NGFF
multiscales, N5 with or without the scales ``s0``, ``s1``, ….
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from dvidcore.errors import BadRequest, DvidError

ReadKey = Callable[[str], bytes | None]
"""The content of a file of the volume, None where there is none."""

MAX_SCALES = 64
_DEFAULT_AXES = {"zarr": "tczyx", "zarr3": "tczyx", "n5": "xyzct"}
"""For arrays that do not name their axes: the last ones of zarr's C order, the first ones of N5's Fortran order."""
_NANOMETERS = {"m": 1e9, "meter": 1e9, "mm": 1e6, "millimeter": 1e6, "um": 1e3, "µm": 1e3, "micrometer": 1e3}
_NANOMETERS |= {"micron": 1e3, "nm": 1.0, "nanometer": 1.0, "nanometers": 1.0, "angstrom": 0.1}


@dataclass(frozen=True, slots=True)
class ScaleLayout:
    """Where one scale lies in the volume's folder, and how its array is to be read."""

    path: str
    """Of its array, relative to the volume."""
    axes: str
    """A letter for each dimension of the array: x, y, z, c for the channel, others that have one element."""
    voxel_size: tuple[float, float, float]
    """X, Y, Z."""
    index: int = 0
    """Among the scales of a precomputed volume, which lie in one folder."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A volume as its metadata describe it."""

    format: str
    scales: Sequence[ScaleLayout]
    units: str = "nanometers"
    kind: str = "image"
    """``image`` or ``segmentation``."""
    attributes: Mapping[str, Any] = field(default_factory=dict)


def find(read: ReadKey, format: str, axes: str) -> Layout:
    """The layout of a volume whose files ``read`` answers.

    ``format`` is one of ``locations.FORMATS``; ``axes`` overrides the names of the axes, ``""`` leaves them as the
    volume says. BadRequest where there is no such volume, or its metadata say nothing that can be shown.
    """
    for name, look in _LOOKS.items():
        if format in ("auto", name):
            try:
                found = look(read, axes)
            except DvidError:
                raise
            except (
                TypeError,
                ValueError,
                KeyError,
                AttributeError,
            ) as error:  # a number for a list, a text for an object
                raise BadRequest(f"URL: the metadata of the {name} volume are not understood: {error}") from None
            if found is not None:
                if not 1 <= len(found.scales) <= MAX_SCALES:
                    raise BadRequest(f"URL: the volume has {len(found.scales)} scales, 1 to {MAX_SCALES} can be shown")
                return found
    looked = "precomputed, zarr, zarr3 or n5" if format == "auto" else format
    raise BadRequest(f"URL: there is no {looked} volume; it must be the folder that holds the volume's metadata")


def _json(read: ReadKey, key: str) -> dict[str, Any] | None:
    data = read(key)
    if data is None:
        return None
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise BadRequest(f'URL: "{key}" of the volume is not JSON') from None
    if not isinstance(value, dict):
        raise BadRequest(f'URL: "{key}" of the volume is not a JSON object')
    return value


def _numbers(value: Any, count: int, what: str) -> list[float]:
    if (
        not isinstance(value, list)
        or len(value) != count
        or not all(isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in value)
    ):
        raise BadRequest(f"URL: {what} of the volume is not a list of {count} numbers")
    return [float(n) for n in value]


def _size(numbers: Sequence[float], what: str) -> tuple[float, float, float]:
    x, y, z = numbers
    if min(numbers) <= 0:
        raise BadRequest(f"URL: {what} of the volume is not positive")
    return x, y, z


# -- precomputed -------------------------------------------------------------------------------------------------------


def _precomputed(read: ReadKey, axes: str) -> Layout | None:
    info = _json(read, "info")
    if info is None or "scales" not in info:
        return None
    if axes:
        raise BadRequest("Axes: those of a precomputed volume are x, y, z and the channel")
    scales = info["scales"]
    if not isinstance(scales, list) or not all(isinstance(scale, dict) for scale in scales):
        raise BadRequest('URL: "scales" of the volume is not a list of JSON objects')
    layouts = [
        ScaleLayout(
            str(scale.get("key", "")),
            "xyzc",
            _size(_numbers(scale.get("resolution"), 3, f"the resolution of scale {k}"), f"the resolution of scale {k}"),
            k,
        )
        for k, scale in enumerate(scales)
    ]
    kind = "segmentation" if info.get("type") == "segmentation" else "image"
    return Layout("precomputed", layouts, kind=kind)


# -- zarr --------------------------------------------------------------------------------------------------------------


def _zarr3(read: ReadKey, axes: str) -> Layout | None:
    found = _json(read, "zarr.json")
    if found is None:
        return None
    attributes = found.get("attributes") or {}
    if found.get("node_type") == "array":
        names = axes or _one_letter(found.get("dimension_names"))
        rank = len(found.get("shape") or ())
        return _single("zarr3", names, rank, attributes)
    return _ome("zarr3", attributes.get("ome") or attributes, axes)


def _zarr2(read: ReadKey, axes: str) -> Layout | None:
    array = _json(read, ".zarray")
    attributes = _json(read, ".zattrs") or {}
    if array is not None:
        names = axes or _one_letter(attributes.get("_ARRAY_DIMENSIONS"))
        return _single("zarr", names, len(array.get("shape") or ()), attributes)
    if "multiscales" in attributes or _json(read, ".zgroup") is not None:
        return _ome("zarr", attributes, axes)
    return None


def _ome(format: str, attributes: Mapping[str, Any], axes: str) -> Layout:
    multiscales = attributes.get("multiscales")
    if not isinstance(multiscales, list) or not multiscales or not isinstance(multiscales[0], dict):
        raise BadRequest(f"URL: this is a {format} group without OME multiscales; name one of its arrays")
    first = multiscales[0]
    named = [axis if isinstance(axis, dict) else {"name": axis} for axis in first.get("axes") or ()]
    names = axes or _one_letter([axis.get("name") for axis in named]) or "tczyx"
    units = [_NANOMETERS.get(str(axis.get("unit", "")).lower(), 0.0) for axis in named] or [0.0] * len(names)
    whole = _ome_scale(first, len(names))
    scales = []
    for dataset in first.get("datasets") or ():
        if not isinstance(dataset, dict) or not isinstance(dataset.get("path"), str):
            raise BadRequest("URL: a dataset of the volume's multiscales has no path")
        factors = dict(zip(names, map(_times, whole, _ome_scale(dataset, len(names)), units), strict=False))
        size = _size([factors.get(axis, 1.0) for axis in "xyz"], "the scale")
        scales.append(ScaleLayout(dataset["path"], _checked_axes(names, len(names)), size))
    known = any(units)
    kind = "segmentation" if "image-label" in attributes else "image"
    return Layout(format, scales, "nanometers" if known else "pixels", kind)


def _times(whole: float, part: float, unit: float) -> float:
    return whole * part * (unit or 1.0)


def _ome_scale(item: Mapping[str, Any], rank: int) -> list[float]:
    for transformation in item.get("coordinateTransformations") or ():
        if isinstance(transformation, dict) and transformation.get("type") == "scale":
            return _numbers(transformation.get("scale"), rank, "a scale transformation")
    return [1.0] * rank


# -- N5 ----------------------------------------------------------------------------------------------------------------


def _n5(read: ReadKey, axes: str) -> Layout | None:
    group = _json(read, "attributes.json")
    if group is not None and "dimensions" in group:
        names = axes or _one_letter(group.get("axes"))
        return _single("n5", names, len(group["dimensions"]), group)
    scales: list[ScaleLayout] = []
    units = ""
    for k in itertools.islice(itertools.count(), MAX_SCALES):
        array = _json(read, f"s{k}/attributes.json")
        if array is None or "dimensions" not in array:
            break
        rank = len(array["dimensions"])
        names = _checked_axes(axes or _one_letter(array.get("axes") or (group or {}).get("axes")), rank, "n5")
        base, units = _n5_size(array, group or {})
        factors = array.get("downsamplingFactors") or [1] * 3
        own = "pixelResolution" in array or "resolution" in array
        size = base if own else [b * f for b, f in zip(base, _numbers(factors[:3], 3, "a factor"), strict=True)]
        scales.append(ScaleLayout(f"s{k}", names, _size(size, "the resolution")))
    return Layout("n5", scales, units) if scales else None


def _n5_size(*attributes: Mapping[str, Any]) -> tuple[list[float], str]:
    """The voxel size and its units in the first of some attributes that have one."""
    for found in attributes:
        resolution = found.get("pixelResolution")
        if isinstance(resolution, dict):
            numbers = _numbers((resolution.get("dimensions") or [])[:3], 3, "pixelResolution")
            factor = _NANOMETERS.get(str(resolution.get("unit", "")).lower(), 0.0)
            return [n * (factor or 1.0) for n in numbers], "nanometers" if factor else "pixels"
        if isinstance(found.get("resolution"), list):
            return _numbers(found["resolution"][:3], 3, "resolution"), "nanometers"
    return [1.0] * 3, "pixels"


# -- axes --------------------------------------------------------------------------------------------------------------


def _single(format: str, names: str, rank: int, attributes: Mapping[str, Any]) -> Layout:
    """An array that is a volume by itself."""
    size, units = _n5_size(attributes)
    return Layout(format, [ScaleLayout("", _checked_axes(names, rank, format), _size(size, "the resolution"))], units)


def _one_letter(names: Any) -> str:
    """Names of axes as their letters; empty where they are not known, or not all by one letter."""
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        return ""
    letters = "".join("c" if name.lower().startswith("c") else name.lower() for name in names)
    return letters if len(letters) == len(names) else ""


def _checked_axes(names: str, rank: int, format: str = "") -> str:
    """The axes of an array of so many dimensions; those of the format where they are not named."""
    if not names and format:
        most = _DEFAULT_AXES[format]
        names = most[:rank] if format == "n5" else most[max(0, len(most) - rank) :]
    if len(names) != rank:
        raise BadRequest(f'Axes: "{names}" names {len(names)} axes, the volume has {rank}')
    if len(set(names)) != len(names) or not {"x", "y"} <= set(names):
        raise BadRequest(f'Axes: "{names}" must name each axis once, x and y among them')
    return names


_LOOKS: Mapping[str, Callable[[ReadKey, str], Layout | None]] = {
    "precomputed": _precomputed,
    "zarr3": _zarr3,
    "zarr": _zarr2,
    "n5": _n5,
}
