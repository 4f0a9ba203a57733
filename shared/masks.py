"""Probabilities of pixels to a mask in the picture's own size, to areas, and to the pictures that show them."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from shared.catalog import Head, Label, Lang
from shared.schemas import Position, Segment

Bytes = NDArray[np.uint8]

LEAST_PX = 2  # a single pixel decides nothing, whatever a card says
STRIP_PX = 2**20  # pixels that are enlarged at once: a large picture must not need gigabytes
OPACITY = 0.3
NEIGHBOURS = np.ones((3, 3), dtype=bool)  # diagonal ones too


@dataclass(frozen=True)
class Outlines:
    """Every pixel's label, and how sure that is.

    Shapes: mask (H, W) uint8, positions in the head's labels; sure (H, W) uint8, probability x 255
    """

    mask: Bytes
    sure: Bytes


def enlarged(
    probabilities: NDArray[np.float32], size: tuple[int, int], smallest: Sequence[float]
) -> Outlines:
    """The most probable label of each pixel of a picture that was stretched to the network's size.

    Small areas are dropped before, so that no label is found in the picture that has none left: what they held
    counts as background.

    Shapes: probabilities (classes, h, w); size (width, height) of the picture; smallest: a share of the
    picture for each class, the background's unused
    """
    found = probabilities.argmax(axis=0).astype(np.uint8)
    kept = without_small(found, smallest)
    clean = probabilities.copy()
    clean[:, kept != found] = 0
    clean[0, kept != found] = 1
    present = np.unique(kept).tolist()
    width, height = size
    outlines = Outlines(np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8))
    rows = max(1, STRIP_PX // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = np.stack([_strip(clean[label], size, top, bottom) for label in present])
        outlines.mask[top:bottom] = np.asarray(present, np.uint8)[strip.argmax(axis=0)]
        outlines.sure[top:bottom] = np.rint(strip.max(axis=0) * 255)
    return outlines


def _strip(plane: NDArray[np.float32], size: tuple[int, int], top: int, bottom: int) -> NDArray[np.float32]:
    """Rows `top` to `bottom` of the plane enlarged; exactly those of the whole.

    Shapes: plane (h, w) -> (bottom - top, width) float32
    """
    height, width = plane.shape
    scale = height / size[1]
    strip = Image.fromarray(plane).resize(
        (size[0], bottom - top), Image.Resampling.BILINEAR, box=(0, top * scale, width, bottom * scale)
    )
    return np.asarray(strip)


def without_small(mask: Bytes, smallest: Sequence[float]) -> Bytes:
    """The mask with connected areas that are smaller than their label's share made background."""
    kept = mask.copy()
    for label in np.unique(mask).tolist():
        if not label:
            continue
        areas, count = ndimage.label(mask == label, NEIGHBOURS)
        sizes = np.bincount(areas.ravel(), minlength=count + 1)
        small = sizes < max(LEAST_PX, smallest[label] * mask.size)
        small[0] = False  # the rest of the picture
        kept[small[areas]] = 0
    return kept


def segments(outlines: Outlines, head: Head, lang: Lang) -> list[Segment]:
    """The area of every label in the picture but the background, in the catalog's order.

    A picture that shows nothing but background gives an empty list.
    """
    boxes = ndimage.find_objects(outlines.mask, max_label=len(head.labels) - 1)
    return [
        _segment(outlines, position, box, head.labels[position], lang)
        for position, box in enumerate(boxes, 1)
        if box is not None
    ]


def _segment(
    outlines: Outlines, position: int, box: tuple[slice, slice], label: Label, lang: Lang
) -> Segment:
    inside = outlines.mask[box] == position
    height, width = outlines.mask.shape
    (top, bottom), (left, right) = ((side.start, side.stop) for side in box)
    down, across = ndimage.center_of_mass(inside)
    area = int(inside.sum())
    return Segment(
        label=label.code,
        name=label.name(lang),
        area_px=area,
        area_fraction=area / outlines.mask.size,
        bbox=(left, top, right - left, bottom - top),
        mean_probability=float(outlines.sure[box][inside].mean()) / 255,
        position=position_of((left + across + 0.5) / width, (top + down + 0.5) / height),
    )


def position_of(across: float, down: float) -> Position:
    """Where in the picture a point lies, in thirds; both 0 to 1, from the upper left corner."""
    rows = ("upper", "middle", "lower")
    columns = ("left", "middle", "right")
    row, column = rows[min(2, int(3 * down))], columns[min(2, int(3 * across))]
    return "centre" if row == column == "middle" else f"{row} {column}"  # type: ignore[return-value]


def mask_png(mask: Bytes, head: Head) -> bytes:
    """The mask as a PNG with a palette: a pixel's index is its label's position, its colour the catalog's."""
    picture = Image.fromarray(mask, "P")
    picture.putpalette([channel for label in head.labels for channel in label.colour or (0, 0, 0)])
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=3)
    return out.getvalue()


def overlay_jpeg(pixels: Bytes, mask: Bytes, head: Head) -> bytes:
    """The picture with each label's colour laid over its area.

    Shapes: pixels (H, W, 3), mask (H, W)
    """
    colours = {position: label.colour for position, label in enumerate(head.labels) if label.colour}
    return jpeg(painted(pixels, mask, colours))


def painted(pixels: Bytes, mask: Bytes, colours: Mapping[int, tuple[int, int, int]]) -> Bytes:
    """A copy of the picture in which the mask's areas are tinted.

    Shapes: pixels (H, W, 3), mask (H, W) -> (H, W, 3)
    """
    picture = pixels.copy()
    for position, colour in colours.items():
        inside = mask == position
        if inside.any():
            tint = np.asarray(colour, np.float32) * OPACITY
            picture[inside] = np.rint(picture[inside] * (1 - OPACITY) + tint)
    return picture


def jpeg(pixels: NDArray[Any]) -> bytes:
    """For people's eyes; colours are kept at full resolution, since outlines are thin."""
    data: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality=90, colorspace="RGB", colorsubsampling="444"
    )
    return data
