"""Doubts: a distance with an independent reference, qualities that follow what was done to a picture, words."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from scipy import ndimage

from shared.cards import Doubt, Interval, Preprocess
from shared.catalog import PIPELINES
from shared.doubt import (
    Doubting,
    Familiar,
    Seen,
    doubting,
    load_familiar,
    quality,
    save_familiar,
    warnings,
)
from shared.errors import CardMismatch
from shared.heads import read_out
from shared.networks import Classifier, for_inference, load_network
from shared.preprocess import normalise
from tests.tiny import tiny_model

PREPROCESS = Preprocess(size_px=64, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
HEAD = PIPELINES["skin"].heads[0]
LIMITS = Doubt(
    sha256="0" * 64, least_sharpness=-4.0, least_brightness=0.2, greatest_brightness=0.9, least_contrast=0.05,
    least_side_px=150, foreign=0, auroc=Interval(value=1, low=1, high=1), auroc_by_kind={}, flagged={},
)  # fmt: skip
FINE = Seen(distance=0.8, sharpness=-3.0, brightness=0.6, contrast=0.2)


def picture() -> Image.Image:
    coarse = np.random.default_rng(0).integers(60, 200, (16, 16, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)


def look(shown: Image.Image) -> list[float]:
    tensor = torch.from_numpy(np.array(shown)).permute(2, 0, 1)[None]
    return quality(normalise(tensor, PREPROCESS, torch.float32), PREPROCESS)[0].tolist()


def test_quality_is_that_of_the_grey_values() -> None:
    grey = np.asarray(picture(), np.float64) @ (0.299, 0.587, 0.114) / 255
    edges = ndimage.laplace(grey)[1:-1, 1:-1]
    expected = [np.log10(edges.var(ddof=1)), grey.mean(), grey.std(ddof=1)]
    assert look(picture()) == pytest.approx(expected, abs=1e-3)


def test_blur_darkness_and_flatness_show() -> None:
    sharp, bright, contrast = look(picture())
    assert look(picture().filter(ImageFilter.GaussianBlur(3)))[0] < sharp - 1
    dark = look(picture().point(lambda value: value // 4))
    assert dark[1] < bright / 3
    assert dark[2] < contrast / 3


def fitted(axes: int = 4) -> tuple[Familiar, torch.Tensor]:
    features = torch.randn((500, 12), generator=torch.Generator().manual_seed(0)) * torch.arange(1, 13) + 3
    centred = features - features.mean(0)
    values, directions = np.linalg.eigh((centred.T @ centred / len(centred)).numpy())
    familiar = Familiar(12, axes)
    familiar.mean.copy_(features.mean(0))
    familiar.deviations.copy_(torch.from_numpy(np.sqrt(values[-axes:])))
    familiar.axes.copy_(torch.from_numpy((directions.T / np.sqrt(values)[:, None])[-axes:]))
    familiar.rest.fill_(float(np.sqrt(values[:-axes].sum())))
    return familiar, features


def test_with_every_axis_the_distance_is_mahalanobis() -> None:
    familiar, features = fitted(11)
    covariance = np.cov(features.numpy().T, bias=True)
    centred = (features - features.mean(0)).numpy()
    whole = np.einsum("nf,fg,ng->n", centred, np.linalg.inv(covariance), centred)
    assert familiar(features).square().numpy() * 11 == pytest.approx(
        whole + 10 * _outermost(familiar, features), rel=1e-3, abs=0.05
    )


def _outermost(familiar: Familiar, features: torch.Tensor) -> np.ndarray:
    """What the one axis that is left out adds: as much as the others' mean instead of one in eleven."""
    centred = features - familiar.mean
    along = centred @ familiar.axes.T
    outside = centred.square().sum(1) - (along * familiar.deviations).square().sum(1)
    return (outside / familiar.rest.square()).numpy()


def test_distances_of_training_pictures_are_about_one_and_of_others_larger() -> None:
    familiar, features = fitted()
    usual = familiar(features)
    assert 1.0 < float(usual.square().mean()) ** 0.5 < 1.6
    assert float(familiar(features + 60).min()) > float(usual.max())


def test_the_numbers_survive_their_file(tmp_path: Path) -> None:
    familiar, features = fitted()
    sha256 = save_familiar(familiar, tmp_path)
    card = tiny_model(tmp_path / "models").model_copy(
        update={"doubt": LIMITS.model_copy(update={"sha256": sha256})}
    )
    assert load_familiar(card, tmp_path)(features) == pytest.approx(familiar(features), rel=1e-2)
    other = card.model_copy(update={"doubt": LIMITS})
    with pytest.raises(CardMismatch, match="doubt"):
        load_familiar(other, tmp_path)


def test_doubting_changes_no_finding_and_survives_what_makes_it_faster(tmp_path: Path) -> None:
    card = tiny_model(tmp_path)
    plain = load_network(card, HEAD, tmp_path / "skin")
    assert isinstance(plain, Classifier)
    assert doubting(plain, card, tmp_path / "skin") is plain
    batch = torch.randn((3, 3, 32, 32), generator=torch.Generator().manual_seed(1))
    familiar = Familiar(plain.pooled(batch).shape[1], 2)
    card = card.model_copy(
        update={"doubt": LIMITS.model_copy(update={"sha256": save_familiar(familiar, tmp_path / "skin")})}
    )
    network = doubting(plain, card, tmp_path / "skin")
    assert isinstance(network, Doubting)
    ready = for_inference(network, torch.device("cpu"), torch.bfloat16)
    assert {value.dtype for value in ready.familiar.state_dict().values()} == {torch.float32}  # type: ignore[union-attr]
    with torch.inference_mode():
        without = read_out(plain(batch), card.model_copy(update={"doubt": None}))
        rows = read_out(network(batch), card)
    assert [row[:7] for row in rows] == without
    assert all(len(row) == 7 + len(Seen._fields) for row in rows)


@pytest.mark.parametrize(
    ("seen", "side_px", "codes", "words"),
    [
        (FINE, 150, [], ""),
        (FINE._replace(distance=1.31), 150, ["out_of_distribution"], "1.31 times"),
        (FINE._replace(sharpness=-4.1), 150, ["low_quality"], "blurred"),
        (FINE._replace(brightness=0.1), 150, ["low_quality"], "too dark"),
        (FINE._replace(brightness=0.95, contrast=0.01), 150, ["low_quality"], "too bright, without contrast"),
        (FINE, 149, ["low_quality"], "too small (149 pixels; 150 are needed)"),
        (Seen(9, -9, 0, 0), 10, ["out_of_distribution", "low_quality"], "unlike those"),
    ],
)
def test_doubts_are_said_in_words(seen: Seen, side_px: int, codes: list[str], words: str) -> None:
    said = warnings(seen, LIMITS, side_px)
    assert [one.code for one in said] == codes
    assert words in " ".join(one.detail for one in said)
