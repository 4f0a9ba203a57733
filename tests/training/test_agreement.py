"""Pairs of one picture in two sizes, against a loop that looks at one picture after the other."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from shared.cards import load_card
from shared.catalog import PIPELINES, SKIN_LABELS
from shared.images import Limits, decode
from shared.networks import load_network
from shared.preprocess import normalise, to_tensor
from tests.tiny import tiny_model
from tests.training.conftest import drawn
from training.agreement import agree
from training.importers import read_data
from training.samples import Archives, BadData

HEAD = PIPELINES["skin"].heads[0]


def test_the_share_of_equal_top_labels_is_written_to_the_card(
    tree: Callable[..., Path], tmp_path: Path
) -> None:
    card, data = tiny_model(tmp_path / "models"), tree()
    folder, samples = tmp_path / "models/skin", read_data(data, PIPELINES["skin"])
    larger: dict[str, bytes] = {}
    for number, label in enumerate(SKIN_LABELS):
        shown = label.code if number % 2 else "nv"  # some show what the other does not
        larger |= {f"ISIC_{label.code}_{lesion}_1": drawn(shown, number, (400, 300)) for lesion in (0, 11)}
    with zipfile.ZipFile(tmp_path / "pairs.zip", "w") as archive:
        for name, picture in larger.items():
            archive.writestr(f"{name}.jpg", picture)
            archive.writestr(f"{name}_expert.png", b"no picture of this name is asked for")
    found = agree(folder, HEAD, samples, tmp_path / "pairs.zip")

    network = load_network(card, HEAD, folder)

    def top(picture: bytes) -> int:
        pixels = decode(picture, Limits(), at_least_px=card.preprocess.size_px)
        tensor = to_tensor(pixels, card.preprocess)[None]
        with torch.inference_mode():
            return int(network(normalise(tensor, card.preprocess, torch.float32)).argmax())

    same: dict[str, bool] = {}
    with Archives() as archives:
        for sample in samples:
            if sample.id in larger:
                coarse = sample.copies[-1]
                assert "200x150" in coarse.path.name
                same[sample.id] = top(coarse.read(archives)) == top(larger[sample.id])
    assert found.pairs == len(same) == 14
    assert found.alike.value == pytest.approx(np.mean(list(same.values())), abs=1e-4)
    assert 0 < found.alike.value < 1
    assert found.alike.low <= found.alike.value <= found.alike.high
    held = [equal for name, equal in same.items() if "_11_" in name]
    assert (found.unseen, found.unseen_alike) == (7, pytest.approx(np.mean(held), abs=1e-4))
    assert load_card(folder).agreement == found


def test_pictures_that_belong_to_another_data_set_are_refused(
    tree: Callable[..., Path], tmp_path: Path
) -> None:
    tiny_model(tmp_path / "models")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/a.jpg").write_bytes(drawn("nv", 0, (40, 30)))
    with pytest.raises(BadData, match="no picture that is named"):
        agree(tmp_path / "models/skin", HEAD, read_data(tree(), PIPELINES["skin"]), tmp_path / "other")
