"""A segment head at work: a picture handed in whole or in tiles, and what comes back made into a mask."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from shared.cards import ModelCard
from shared.catalog import Lang
from shared.masks import Outlines, enlarged, mask_png, overlay_jpeg, segments, without_small
from shared.preprocess import to_tensor
from shared.tiles import Tile, padded, tiles
from workers.artifacts import Made
from workers.results import HeadResult
from workers.serving import Served

Pixels = NDArray[np.uint8]
MASK, OVERLAY, DICOM_SEG = "mask", "overlay", "dicom_seg"


@dataclass(frozen=True)
class DicomSource:
    """What a DICOM Segmentation object refers to: the stored file, and which of its frames was seen."""

    job_id: str
    data: bytes
    frame: int


def hand_in(
    served: Served, pixels: Pixels, rank: int, lang: Lang, source: DicomSource | None
) -> Callable[[], HeadResult]:
    """Give the picture to the microbatcher; what is returned waits for it, and shapes what it found."""
    look = _hand_in_tiles if served.card.preprocess.crop == "tiles" else _hand_in_whole
    waiting = look(served, pixels, rank)

    def end() -> HeadResult:
        outlines = waiting()
        found = segments(outlines, served.head, lang)
        made = (
            Made(MASK, "image/png", mask_png(outlines.mask, served.head)),
            Made(OVERLAY, "image/jpeg", overlay_jpeg(pixels, outlines.mask, served.head)),
            *(_dicom_seg(source, outlines, served) if source else ()),
        )
        return HeadResult({"segments": [segment.model_dump() for segment in found]}, made)

    return end


def _dicom_seg(source: DicomSource, outlines: Outlines, served: Served) -> Iterator[Made]:
    from workers.dicom_seg import MEDIA_TYPE, dicom_seg  # a second of loading, for DICOM files alone

    data = dicom_seg(source.data, source.frame, outlines.mask, served.head, served.card, source.job_id)
    if data:
        yield Made(DICOM_SEG, MEDIA_TYPE, data)


def smallest_areas(card: ModelCard) -> list[float]:
    """A share of the picture for each of the card's labels; the background has none."""
    return [card.smallest_area.get(code, 0.0) for code in card.labels]


def _hand_in_whole(served: Served, pixels: Pixels, rank: int) -> Callable[[], Outlines]:
    future = served.batcher.submit(to_tensor(pixels, served.card.preprocess), rank)
    size = (pixels.shape[1], pixels.shape[0])
    return lambda: enlarged(future.result(), size, smallest_areas(served.card))


def _hand_in_tiles(served: Served, pixels: Pixels, rank: int) -> Callable[[], Outlines]:
    """Each tile decides the pixels whose nearest centre is its own; there is no seam to blend.

    Only so many tiles are under way at once, since their probabilities need far more memory than the picture.
    """
    preprocess = served.card.preprocess
    height, width = pixels.shape[:2]
    whole = padded(pixels, preprocess.size_px)
    ahead = tiles(whole.shape[1], whole.shape[0], preprocess.size_px, preprocess.overlap_px)

    def submit(tile: Tile) -> tuple[Tile, "Future[NDArray[np.float32]]"]:
        return tile, served.batcher.submit(to_tensor(tile.cut(whole), preprocess), rank)

    waiting = deque(submit(tile) for tile in islice(ahead, 2 * served.card.largest_microbatch))

    def end() -> Outlines:
        mask, sure = np.zeros(whole.shape[:2], np.uint8), np.zeros(whole.shape[:2], np.uint8)
        while waiting:
            tile, future = waiting.popleft()
            found = future.result()[:, *tile.own]
            mask[tile.place], sure[tile.place] = found.argmax(axis=0), np.rint(found.max(axis=0) * 255)
            waiting.extend(submit(tile) for tile in islice(ahead, 1))
        mask = mask[:height, :width]
        return Outlines(without_small(mask, smallest_areas(served.card)), sure[:height, :width])

    return end
