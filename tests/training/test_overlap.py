"""Dice, IoU and Hausdorff distance against sets of pixels and all pairs of outline points."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.overlap import dice, hausdorff95, iou, thresholded

Points = set[tuple[int, int]]


def points(mask: np.ndarray, label: int) -> Points:
    return {(y, x) for y in range(mask.shape[0]) for x in range(mask.shape[1]) if mask[y, x] == label}


def border(area: Points) -> Points:
    return {
        (y, x) for y, x in area if not {(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)} <= area
    }  # a pixel at the picture's edge has a neighbour that is in no area


def nearest(one: Points, other: Points) -> list[float]:
    return [min(math.dist(point, far) for far in other) for point in one]


masks = st.integers(0, 10_000).map(
    lambda seed: np.random.default_rng(seed).integers(0, 3, (2, 9, 7)).astype(np.uint8)
)
# Blocks of equal pixels, so that areas have an inside.
blocks = st.integers(0, 10_000).map(
    lambda seed: np.kron(
        np.random.default_rng(seed).integers(0, 3, (2, 4, 4)), np.ones((1, 4, 4), dtype=int)
    ).astype(np.uint8)
)


@settings(max_examples=60, deadline=None)
@given(pair=st.one_of(masks, blocks))
def test_dice_and_iou_count_sets_of_pixels(pair: np.ndarray) -> None:
    found, truth = pair
    for label in range(4):  # 3 is in neither mask
        one, other = points(found, label), points(truth, label)
        got = dice(found, truth, 4)[label], iou(found, truth, 4)[label]
        if not one | other:
            assert all(math.isnan(value) for value in got)
        else:
            assert got[0] == pytest.approx(2 * len(one & other) / (len(one) + len(other)))
            assert got[1] == pytest.approx(len(one & other) / len(one | other))


@settings(max_examples=40, deadline=None)
@given(pair=st.one_of(masks, blocks))
def test_hausdorff_measures_every_pair_of_outline_points(pair: np.ndarray) -> None:
    found, truth = pair
    for label in range(4):
        one, other = border(points(found, label)), border(points(truth, label))
        got = hausdorff95(found, truth, 4)[label]
        if not one or not other:
            assert math.isnan(got)
        else:
            assert got == pytest.approx(np.percentile(nearest(one, other) + nearest(other, one), 95))


def test_a_square_moved_by_three_pixels_is_three_pixels_away() -> None:
    truth, found = np.zeros((2, 40, 40), dtype=np.uint8)
    truth[10:20, 10:20] = 1
    found[10:20, 13:23] = 1
    assert hausdorff95(found, truth, 2)[1] == pytest.approx(3)
    assert dice(found, truth, 2)[1] == pytest.approx(0.7)


def test_a_bad_outline_counts_nothing() -> None:
    assert thresholded(np.array([0.64, 0.65, 0.9])).tolist() == [0, 0.65, 0.9]


def test_masks_of_different_size_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        dice(np.zeros((2, 2), dtype=np.uint8), np.zeros((2, 3), dtype=np.uint8), 2)
