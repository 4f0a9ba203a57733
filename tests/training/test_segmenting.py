"""A whole small cross-validated run of a segmenter: folds, card, figures; and what its data may not be."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.cards import SegmentMetrics, load_card
from shared.catalog import PIPELINES
from shared.networks import load_network
from tests.shared_data import shared_data
from training import train
from training.config import TrainConfig
from training.importers.chest import read_chest
from training.samples import BadData

Tree = Callable[..., Path]
CHEST = PIPELINES["chest-xray"]


def test_a_cross_validated_run_learns_and_its_card_is_true(
    xrays: Tree, segmenting: TrainConfig, tmp_path: Path
) -> None:
    out, folder = tmp_path / "model", tmp_path / "run"
    longer = segmenting.model_copy(update={"epochs": 8, "learning_rate": 0.03, "microbatch": 3})
    card = train.train(longer, xrays(), out, folder)
    assert card == load_card(out)
    assert isinstance(card.metrics, SegmentMetrics)
    assert card.metrics.split == "2-fold"
    assert (card.metrics.images, card.metrics.groups) == (18, 10)
    assert card.metrics.mean_dice.value > 0.4  # a mask of one label has 0
    assert card.labels == tuple(label.code for label in CHEST.heads[0].labels)
    assert set(card.smallest_area) == set(card.labels[1:])
    assert all(0 < share < 0.2 for share in card.smallest_area.values())
    load_network(card, CHEST.heads[0], out)
    split = (folder / "split.csv").read_text().splitlines()[1:]
    folds = {tuple(line.split(",")[1:]) for line in split}
    assert len(folds) == 10  # a patient stands in one fold only
    assert not (folder / "checkpoint.pt").exists()


def test_only_pictures_with_a_licence_are_read() -> None:
    samples = read_chest(shared_data("xray", "chest"), CHEST)
    assert len(samples) == 44
    assert len({sample.group for sample in samples}) == 37


def test_everything_wrong_with_masks_is_said_before_the_first_epoch(
    xrays: Tree, segmenting: TrainConfig, tmp_path: Path
) -> None:
    data = xrays()
    masks, images = data / "masks_anatomy", data / "images"
    Image.fromarray(np.zeros((9, 9), dtype=np.uint8)).save(masks / "cxr000.png")
    Image.fromarray(np.full((48, 56), 7, dtype=np.uint8)).save(masks / "cxr001.png")
    (masks / "cxr002.png").write_bytes(b"no picture")
    (images / "cxr003.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(BadData) as refused:
        train.train(segmenting, data, tmp_path / "out", tmp_path / "run")
    told = str(refused.value)
    for part in (
        "cxr000: its mask is (9, 9), its picture (48, 56)",
        "cxr001: its mask holds the value 7",
        "cxr002: its mask cannot be read",
        "cxr003.png: ",
    ):
        assert part in told
    assert not (tmp_path / "run").exists()
