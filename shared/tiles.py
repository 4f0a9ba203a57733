"""Cuts a large picture into overlapping tiles, and says which part of it each tile decides."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Area = tuple[slice, slice]


@dataclass(frozen=True)
class Tile:
    """A square of the picture. It decides `place`, which is its own part `own`; the margin is only context."""

    top: int
    left: int
    size_px: int
    place: Area  # in the picture
    own: Area  # the same, in the tile

    def cut(self, pixels: Pixels) -> Pixels:
        return pixels[self.top : self.top + self.size_px, self.left : self.left + self.size_px]


def padded(pixels: Pixels, least_px: int) -> Pixels:
    """The picture, its right and lower border repeated until neither side is shorter than `least_px`.

    Shapes: (H, W, 3) -> (max(H, least_px), max(W, least_px), 3)
    """
    height, width = pixels.shape[:2]
    if min(height, width) >= least_px:
        return pixels
    lacks = ((0, max(0, least_px - height)), (0, max(0, least_px - width)), (0, 0))
    return np.pad(pixels, lacks, mode="edge")


def tiles(width: int, height: int, size_px: int, overlap_px: int) -> Iterator[Tile]:
    """Tiles that overlap by at least `overlap_px`; the places they decide cover the picture once.

    Both sides must be at least `size_px`.
    """
    for top, down in _spans(height, size_px, overlap_px):
        for left, across in _spans(width, size_px, overlap_px):
            own = (
                slice(down.start - top, down.stop - top),
                slice(across.start - left, across.stop - left),
            )
            yield Tile(top, left, size_px, (down, across), own)


def _spans(length: int, size_px: int, overlap_px: int) -> list[tuple[int, slice]]:
    """Where tiles begin along one side, and what each of them decides: up to the middle of an overlap."""
    steps = -(-(length - size_px) // (size_px - overlap_px))  # rounded up
    starts = [round(step * (length - size_px) / steps) for step in range(steps + 1)] if steps else [0]
    borders = [(left + size_px + right) // 2 for left, right in pairwise(starts)]
    return [
        (start, slice(begin, end))
        for start, begin, end in zip(starts, [0, *borders], [*borders, length], strict=True)
    ]
