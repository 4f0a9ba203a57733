"""Figures of hard masks: Dice, IoU and Hausdorff distance of each label of a picture."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt

Mask = NDArray[np.integer]
Row = NDArray[np.float64]  # one value per label; NaN: the label is in neither mask

JACCARD_THRESHOLD = 0.65  # below it a picture counts as missed. Source: ISIC 2018, task 1


def counts(found: Mask, truth: Mask, labels: int) -> NDArray[np.int64]:
    """Pixels of each pair (truth, found).

    Shapes: found and truth (H, W) with values below `labels` -> (labels, labels)
    Raises: ValueError if the shapes differ
    """
    if found.shape != truth.shape:
        raise ValueError(f"a mask of {found.shape} cannot be compared with one of {truth.shape}")
    pairs = truth.ravel().astype(np.int64) * labels + found.ravel()
    return np.bincount(pairs, minlength=labels * labels).reshape(labels, labels)


def dice(found: Mask, truth: Mask, labels: int) -> Row:
    """2|P and T| / (|P| + |T|) of each label; NaN for a label absent from both, never 1.

    Shapes: (H, W) twice -> (labels,)
    """
    pixels = counts(found, truth, labels)
    return _ratio(2 * pixels.diagonal(), pixels.sum(axis=0) + pixels.sum(axis=1))


def iou(found: Mask, truth: Mask, labels: int) -> Row:
    """|P and T| / |P or T| of each label; NaN for a label absent from both, never 1.

    Shapes: (H, W) twice -> (labels,)
    """
    pixels = counts(found, truth, labels)
    both = pixels.diagonal()
    return _ratio(both, pixels.sum(axis=0) + pixels.sum(axis=1) - both)


def _ratio(above: NDArray[np.int64], below: NDArray[np.int64]) -> Row:
    ratio: Row = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
    return ratio


def hausdorff95(found: Mask, truth: Mask, labels: int) -> Row:
    """95th percentile of the distances between both outlines of each label, taken in both directions together.

    NaN for a label that is missing from either mask: there is no distance to nothing.

    Shapes: (H, W) twice -> (labels,)
    Units: pixels
    """
    rows = np.full(labels, np.nan)
    for label in range(labels):
        one, other = outline(found == label), outline(truth == label)
        if one.any() and other.any():
            there, back = distance_transform_edt(~other)[one], distance_transform_edt(~one)[other]
            rows[label] = np.percentile(np.concatenate([there, back]), 95)
    return rows


def outline(area: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The area's pixels that have a neighbour, of four, outside; the picture's edge is outside."""
    inside: NDArray[np.bool_] = binary_erosion(area)
    return area & ~inside


def thresholded(jaccard: Row) -> Row:
    """IoU, but 0 below 0.65: an outline that bad has to be drawn again."""
    return np.where(jaccard < JACCARD_THRESHOLD, 0.0, jaccard)


def mean(rows: NDArray[np.float64], axis: int | tuple[int, ...] | None = None) -> NDArray[np.float64]:
    """Mean of what is not NaN; NaN where nothing else is there."""
    known = ~np.isnan(rows)
    count = known.sum(axis=axis)
    total = np.where(known, rows, 0.0).sum(axis=axis)
    result: NDArray[np.float64] = np.divide(
        total, count, out=np.full(np.shape(total), np.nan), where=count > 0
    )
    return result
