"""Stacks of images: a file for each section, or pages of TIFF files."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from dvidcore.errors import BadRequest
from dvidcore.geometry import ZYX
from dvidcore.loading.parallel import Workers
from dvidcore.loading.sources import Source, identity_of
from dvidcore.local.edges import Read

IN_MEMORY = 512 << 20
"""Bytes of decoded sections that are held in memory; a layer of more goes through a temporary file."""

_SAMPLE_FORMAT = 339
_UNSIGNED = 1
_TYPES = {"L": "u1", "RGB": "u1", "RGBA": "u1", "I;16": "<u2", "I;16L": "<u2", "I;16B": "<u2", "I": "<i4", "F": "<f4"}

Page = tuple[Path, int]


class ImageStack(Source):
    """Sections of one size and kind, in order along Z. An image is decoded once, since none can be read in part."""

    def __init__(self, files: Sequence[Path], labels: bool, workers: Workers) -> None:
        # Sections are larger than what Pillow takes for an attack.
        Image.MAX_IMAGE_PIXELS = None
        self._labels = labels
        self._pages: list[Page] = []
        first: tuple[Any, ...] | None = None
        inspected = dict(workers.each(self._inspect, files))
        for file in files:
            for page, kind in enumerate(inspected[file]):
                first = first or kind
                if kind != first:
                    raise BadRequest(f"{file}, page {page + 1}: {_described(kind)}, the first has {_described(first)}")
                self._pages.append((file, page))
        assert first is not None
        width, height, mode, code = first
        self.dtype = np.dtype(code)
        self.channels = {"RGB": 3, "RGBA": 4}.get(mode, 1)
        self.shape = ZYX(len(self._pages), height, width)
        self.identity = identity_of(files, str(labels))

    def _inspect(self, file: Path) -> tuple[Path, list[tuple[int, int, str, str]]]:
        """(width, height, mode, number type) of each page, from their headers."""
        found = []
        with _opened(file) as image:
            for page in range(getattr(image, "n_frames", 1)):
                image.seek(page)
                mode = self._mode(image)
                if mode not in _TYPES:
                    raise BadRequest(f"{file}: images of the mode {mode} cannot be loaded")
                code = "<u4" if mode == "I" and _is_unsigned(image) else _TYPES[mode]
                found.append((*image.size, mode, code))
        return file, found

    def _mode(self, image: Image.Image) -> str:
        """The mode that an image is decoded to: the numbers of a palette for labels, else its colours."""
        if image.mode == "P":
            return "L" if self._labels else "RGB"
        return "L" if image.mode == "1" else image.mode

    def _array(self, image: Image.Image) -> NDArray[Any]:
        if image.mode == "P" and not self._labels:
            return np.asarray(image.convert("RGB"))
        if image.mode == "1" and not self._labels:
            return np.asarray(image.convert("L"))
        array = np.asarray(image)
        # Pillow has no unsigned mode of 32 bits, but keeps all of them.
        return array.view(np.uint32) if self.dtype == np.dtype("<u4") else array

    @contextmanager
    def layer(self, low: ZYX, size: ZYX, workers: Workers) -> Iterator[Read]:
        """Decodes the sections of the box, all of it before the first box is read."""
        with ExitStack() as opened:
            shape = size if self.channels == 1 else (*size, self.channels)
            decoded: NDArray[Any]
            if math.prod(shape) * self.dtype.itemsize <= IN_MEMORY:
                decoded = np.empty(shape, self.dtype)
            else:
                file = opened.enter_context(tempfile.TemporaryFile())
                decoded = np.memmap(file, self.dtype, "w+", shape=shape)

            def decode(run: tuple[Path, list[tuple[int, int]]]) -> None:
                path, pages = run
                with _opened(path) as image:
                    for z, page in pages:
                        image.seek(page)
                        section = self._section(image, path)
                        decoded[z] = section[low.y : low.y + size.y, low.x : low.x + size.x]

            for _ in workers.each(decode, self._runs(low.z, size.z, workers.count)):
                pass

            def read(at: ZYX, part: ZYX) -> NDArray[Any]:
                return decoded[tuple(slice(a - o, a - o + n) for a, o, n in zip(at, low, part, strict=True))]

            yield read

    def _runs(self, first: int, count: int, workers: int) -> Iterator[tuple[Path, list[tuple[int, int]]]]:
        """Files with some of their pages, (z in the layer, page): a file is searched from its start for a page."""
        pages = [(path, z, page) for z, (path, page) in enumerate(self._pages[first : first + count])]
        together = -(-count // workers)
        for path, group in groupby(pages, lambda item: item[0]):
            run = [(z, page) for _, z, page in group]
            for at in range(0, len(run), together):
                yield path, run[at : at + together]

    def _section(self, image: Image.Image, path: Path) -> NDArray[Any]:
        try:
            return self._array(image)
        except (OSError, ValueError, SyntaxError) as error:
            raise BadRequest(f"{path} is damaged: {error}") from None


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except (UnidentifiedImageError, SyntaxError) as error:
        raise BadRequest(f"{path} is no image that can be read: {error}") from None


def _is_unsigned(image: Image.Image) -> bool:
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return False
    formats = tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))
    return bool((formats[0] if isinstance(formats, tuple) else formats) == _UNSIGNED)


def _described(kind: tuple[Any, ...]) -> str:
    width, height, mode, _ = kind
    return f"{width} x {height} pixels of the mode {mode}"
