"""Probabilities of pixels to masks, areas and overlays, on pictures small enough to count by hand."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from shared.catalog import PIPELINES, Head
from shared.masks import (
    Outlines,
    enlarged,
    mask_png,
    overlay_jpeg,
    painted,
    position_of,
    segments,
    without_small,
)

LESION = PIPELINES["lesion"].heads[0]
CHEST = PIPELINES["chest-xray"].heads[0]
NONE = [0.0] * 5


def smooth(classes: int, size: int, seed: int = 0) -> np.ndarray:
    """Probabilities as a network makes them: blobs, no noise from pixel to pixel."""
    coarse = torch.randn((1, classes, 4, 4), generator=torch.Generator().manual_seed(seed)) * 3
    fine = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic")
    return torch.softmax(fine, 1)[0].numpy()


@pytest.mark.parametrize("size", [(100, 75), (48, 48), (333, 40), (33, 64)])
def test_a_mask_is_the_argmax_of_the_probabilities_resized_to_the_picture(size: tuple[int, int]) -> None:
    probabilities = smooth(5, 32)
    found = enlarged(probabilities, size, NONE)
    assert found.mask.shape == found.sure.shape == (size[1], size[0])
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(probabilities)[None], (size[1], size[0]), mode="bilinear", antialias=True
    )[0].numpy()
    clear = np.sort(resized, axis=0)[-1] - np.sort(resized, axis=0)[-2] > 1e-3
    assert clear.mean() > 0.95
    assert np.array_equal(found.mask[clear], resized.argmax(axis=0)[clear])
    assert np.abs(found.sure / 255 - resized.max(axis=0)).max() < 0.01


def test_a_picture_is_enlarged_in_strips_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities = smooth(5, 32)
    whole = enlarged(probabilities, (301, 203), NONE)
    monkeypatch.setattr("shared.masks.STRIP_PX", 301 * 7)
    strips = enlarged(probabilities, (301, 203), NONE)
    assert np.array_equal(whole.mask, strips.mask)
    assert np.abs(whole.sure.astype(int) - strips.sure).max() <= 1


def test_stray_pixels_and_small_areas_decide_nothing() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[2:7, 2:7] = 1  # 25 pixels
    mask[10, 10] = mask[11, 11] = 1  # two that touch at a corner
    mask[15, 3] = 2  # one alone, and nothing else of its label
    assert sorted(np.unique(without_small(mask, NONE)).tolist()) == [0, 1]
    assert (without_small(mask, NONE) == 1).sum() == 27
    kept = without_small(mask, [0, 0.01, 0, 0, 0])
    assert (kept == 1).sum() == 25
    assert not without_small(mask, [0, 0.07, 0, 0, 0]).any()


def test_a_label_whose_only_area_is_too_small_is_nowhere_in_the_picture() -> None:
    probabilities = np.full((2, 16, 16), 0.1, np.float32)
    probabilities[0] = 0.9
    probabilities[:, 5, 5] = 0.05, 0.95
    assert enlarged(probabilities, (160, 160), [0, 0]).mask.sum() == 0
    probabilities[:, 5, 6] = 0.05, 0.95
    assert enlarged(probabilities, (160, 160), [0, 0]).mask.sum() > 0


def test_areas_boxes_and_probabilities_are_the_masks() -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[4:10, 50:58] = 1
    mask[30:34, 20:40] = 3
    sure = np.where(mask == 1, 204, 255).astype(np.uint8)
    lung, heart = segments(Outlines(mask, sure), CHEST, "en")
    assert (lung.label, lung.name, lung.area_px, lung.bbox) == ("left_lung", "Left lung", 48, (50, 4, 8, 6))
    assert lung.area_fraction == 48 / 2400
    assert lung.mean_probability == pytest.approx(0.8)
    assert lung.position == "upper right"
    assert (heart.label, heart.area_px, heart.bbox) == ("cardiomediastinum", 80, (20, 30, 20, 4))
    assert heart.position == "lower middle"


def test_a_picture_without_anything_has_no_segments() -> None:
    nothing = Outlines(np.zeros((5, 5), np.uint8), np.full((5, 5), 255, np.uint8))
    assert segments(nothing, LESION, "ko") == []


@pytest.mark.parametrize(
    ("across", "down", "said"),
    [
        (0.1, 0.1, "upper left"), (0.5, 0.2, "upper middle"), (0.9, 0.5, "middle right"),
        (0.5, 0.5, "centre"), (0.2, 0.5, "middle left"), (1.0, 1.0, "lower right"), (0.4, 0.99, "lower middle"),
    ],
)  # fmt: skip
def test_a_position_is_said_in_thirds(across: float, down: float, said: str) -> None:
    assert position_of(across, down) == said


def test_the_index_of_a_masks_pixel_is_its_label_and_its_colour_the_catalogs() -> None:
    mask = np.arange(5, dtype=np.uint8).reshape(1, 5)
    with Image.open(io.BytesIO(mask_png(mask, CHEST))) as stored:
        assert stored.mode == "P"
        assert np.array_equal(np.asarray(stored), mask)
        colours = np.asarray(stored.convert("RGB"))[0].tolist()
    assert colours == [list(label.colour or (0, 0, 0)) for label in CHEST.labels]


@pytest.mark.parametrize("head", [LESION, CHEST, PIPELINES["abdominal-xray"].heads[0]])
def test_every_label_but_the_background_has_a_colour_of_its_own(head: Head) -> None:
    colours = [label.colour for label in head.labels]
    assert colours[0] is None
    assert None not in colours[1:]
    assert len(set(colours)) == len(colours)


def test_an_overlay_tints_the_area_by_three_tenths_and_leaves_the_rest() -> None:
    pixels = np.full((32, 32, 3), 100, np.uint8)
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 1
    tinted = painted(pixels, mask, {1: (0, 255, 255)})
    assert tinted[0, 0].tolist() == [100, 100, 100]
    assert tinted[10, 10].tolist() == [70, 146, 146]
    assert pixels[10, 10].tolist() == [100, 100, 100]
    with Image.open(io.BytesIO(overlay_jpeg(pixels, mask, LESION))) as shown:
        assert shown.size == (32, 32)
        assert np.abs(np.asarray(shown)[16, 16].astype(int) - [70, 146, 146]).max() <= 4
