"""LIME for a picture: the package's sampling and regression, with its pictures sent through a microbatcher."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import torch
from lime.lime_image import LimeImageExplainer
from numpy.typing import NDArray
from skimage.segmentation import relabel_sequential, slic
from torch import Tensor

from shared.schemas import Explain
from workers.microbatch import RANKS, Microbatcher

Pixels = NDArray[np.uint8]

SAMPLES: dict[Explain, int] = {"low": 50, "medium": 200, "high": 1_000}
SUPERPIXELS = 50


class BatchedLime(LimeImageExplainer):  # type: ignore[misc]
    """The package makes and computes its pictures one after the other; here both happen at once."""

    def __init__(self, seed: int) -> None:
        super().__init__(feature_selection="none", random_state=seed)

    def data_labels(
        self,
        image: Pixels,
        fudged_image: Pixels,
        segments: NDArray[np.int64],
        classifier_fn: Callable[[Iterable[Pixels]], list[list[float]]],
        num_samples: int,
        batch_size: int = 0,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Which superpixels each sample keeps, the first keeping all, and what the network says of it.

        The same random numbers as the package's own method draws.

        Shapes: -> (samples, superpixels) of 0 and 1, (samples, classes)
        """
        superpixels = int(segments.max()) + 1
        drawn = self.random_state.randint(0, 2, num_samples * superpixels)
        kept = drawn.reshape(num_samples, superpixels)
        kept[0] = 1
        pictures = hidden(image, fudged_image, segments, kept.astype(np.uint8))
        return kept, np.array(classifier_fn(pictures))


def hidden(
    image: Pixels, fudged_image: Pixels, segments: NDArray[np.int64], kept: NDArray[np.uint8]
) -> Iterator[Pixels]:
    """The picture for each row of `kept`, in which the superpixels with a 0 are those of the other picture.

    In bytes and modulo 256, `other + kept * (image - other)` is exact, and takes a quarter of the time that choosing
    takes for each pixel; a thousand samples have to be made while the device computes.

    Shapes: image, fudged_image (S, S, 3), segments (S, S), kept (N, superpixels) of 0 and 1 -> N times (S, S, 3)
    """
    areas = np.repeat(segments.ravel(), image.shape[2])
    other = fudged_image.ravel()
    difference = image.ravel() - other
    for row in kept:
        shown = row.take(areas)
        shown *= difference
        shown += other
        yield shown.reshape(image.shape)


def superpixels(picture: Pixels) -> NDArray[np.int64]:
    """Small areas of one colour, numbered from 0 without gaps.

    Shapes: (S, S, 3) -> (S, S)
    Source: Achanta et al. 2012, SLIC; the package's default, quickshift, takes 20 times as long
    """
    areas = slic(picture, n_segments=SUPERPIXELS, compactness=10, start_label=1)
    numbered: NDArray[np.int64] = relabel_sequential(areas)[0] - 1  # type: ignore[no-untyped-call]
    return numbered


def lime_weights(
    picture: Pixels,
    label: int,
    samples: int,
    seed: int,
    predict: Callable[[Iterable[Pixels]], list[list[float]]],
) -> NDArray[np.float64]:
    """How much each pixel's superpixel speaks for the label; below 0, against it.

    A superpixel that is left out gets the picture's mean colour. With its own, as the package does it, a lesion
    of one colour would not go away.

    Shapes: picture (S, S, 3), as the network sees it -> (S, S)
    Source: Ribeiro et al. 2016, arXiv:1602.04938
    """
    areas = superpixels(picture)
    found = BatchedLime(seed).explain_instance(
        picture,
        predict,
        labels=(label,),
        top_labels=None,
        hide_color=picture.mean(axis=(0, 1)),
        num_samples=samples,
        segmentation_fn=lambda _: areas,
        random_seed=seed,
    )
    weights = np.zeros(int(areas.max()) + 1)
    for area, weight in found.local_exp[label]:
        weights[area] = weight
    spread: NDArray[np.float64] = weights[areas]
    return spread


def through(
    batcher: Microbatcher[Tensor, Any], pictures: Iterable[Pixels], should_stop: Callable[[], bool]
) -> list[list[float]]:
    """Each picture's probabilities, computed when nobody else waits for the device.

    Two microbatches are under way at once: one is computed while the next is made.

    Raises: Stopped
    """
    waiting: deque[Future[list[float]]] = deque()
    rows: list[list[float]] = []
    for tensor in _tensors(pictures):
        waiting.append(batcher.submit(tensor, RANKS["explain"]))
        if len(waiting) >= 2 * batcher.largest:
            rows.append(waiting.popleft().result())
            if should_stop():
                raise Stopped()
    return rows + [future.result() for future in waiting]


class Stopped(Exception):
    """Nobody wants the explanation any more."""


def _tensors(pictures: Iterable[Pixels]) -> Iterator[Tensor]:
    """Shapes: (S, S, 3) -> (3, S, S), channels last in memory"""
    return (torch.from_numpy(picture).permute(2, 0, 1) for picture in pictures)
