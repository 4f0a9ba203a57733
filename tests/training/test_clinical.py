"""What age, sex and site say: learned on drawn data, kept apart from what a picture shows, told in the card."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from shared.cards import load_card, save_card
from shared.catalog import PIPELINES
from tests.tiny import tiny_model
from tests.training.conftest import plan
from training import clinical, evaluate, train
from training.clinical import fitted, rescaled
from training.config import TrainConfig
from training.importers import read_data
from training.metrics import card_metrics, paired_difference
from training.samples import BadData

SKIN = PIPELINES["skin"]
SITES = [site for site in SKIN.sites if site != "unknown"]
Tree = Callable[..., Path]


def told_plan() -> list[dict[str, str]]:
    """The drawn lesions with a site that mostly tells the label; nothing is known of every eighth picture."""
    random = np.random.default_rng(2)
    rows = plan()
    codes = [label.code for label in SKIN.labels]
    for number, row in enumerate(rows):
        site = SITES[codes.index(row["dx"])] if random.random() < 0.8 else "back"
        known = {"age": str(float(random.integers(20, 80))), "sex": "female", "localization": site}
        row |= known if number % 8 else {"age": "", "sex": "unknown", "localization": "unknown"}
    return rows


def test_rows_are_the_log_likelihoods_that_the_data_was_drawn_from() -> None:
    random = np.random.default_rng(0)
    prior, given = np.array([0.7, 0.2, 0.1]), np.array([[0.8, 0.2], [0.5, 0.5], [0.2, 0.8]])  # p(sex | label)
    truth = random.choice(3, size=20_000, p=prior)
    male = random.random(len(truth)) < given[truth, 1]
    inputs = torch.zeros((len(truth), 3), dtype=torch.float64)  # the third value is nobody's
    inputs[torch.arange(len(truth)), torch.from_numpy(male.astype(int))] = 1
    base = torch.from_numpy(np.log(prior)).expand(len(truth), 3)
    rows = fitted(base, torch.from_numpy(truth), inputs, (3,), 1e-3).numpy()
    expected = np.log(given / (prior @ given)).T
    centred = rows[:2] - rows[:2].mean(axis=1, keepdims=True)
    assert centred == pytest.approx(expected - expected.mean(axis=1, keepdims=True), abs=0.06)
    assert not rows[2].any()


def test_evidence_is_not_credited_with_how_common_labels_are() -> None:
    """Every label is drawn for both sexes alike, from pictures that say nothing and favour no label."""
    truth = torch.tensor([0] * 900 + [1] * 90 + [2] * 10)
    inputs = torch.zeros((1000, 2), dtype=torch.float64)
    inputs[torch.arange(1000), torch.arange(1000) % 2] = 1
    flat = torch.zeros((1000, 3), dtype=torch.float64)
    scaled = rescaled(flat, truth, 1.0)
    assert torch.softmax(scaled.bias, 0).tolist() == pytest.approx([0.9, 0.09, 0.01], abs=1e-4)
    rows = fitted(flat + scaled.bias, truth, inputs, (2,), 0.1)
    assert float(rows.abs().max()) < 1e-3


def test_a_network_that_is_too_sure_is_scaled_down() -> None:
    random = np.random.default_rng(1)
    logits = torch.from_numpy(random.normal(size=(5000, 4)))
    truth = torch.distributions.Categorical(logits=logits).sample()
    found = rescaled(3 * logits, truth)
    assert found.scale == pytest.approx(1 / 3, abs=0.03)
    assert found.loss < rescaled(3 * logits, truth, 1.0).loss


def test_a_paired_difference_is_that_of_the_figures_and_of_equals_it_is_none() -> None:
    random = np.random.default_rng(3)
    truth = random.integers(0, 3, 90)
    before = random.dirichlet(np.ones(3), 90)
    after = (before + 2 * np.eye(3)[truth]) / 3
    groups = [str(number // 2) for number in range(90)]
    moved = paired_difference(groups, truth, before, after)["accuracy"]
    gain = (after.argmax(1) == truth).mean() - (before.argmax(1) == truth).mean()
    assert moved.value == pytest.approx(gain, abs=1e-4)
    assert 0 < moved.low <= moved.value <= moved.high
    same = paired_difference(groups, truth, before, before)
    assert all((one.value, one.low, one.high) == (0, 0, 0) for one in same.values())


def test_teaching_leaves_the_network_alone_and_tells_both_figures(
    tree: Tree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tree(told_plan())
    before = tiny_model(tmp_path / "models")
    folder = tmp_path / "models/skin"
    weights = (folder / "weights.safetensors").read_bytes()
    clinical.main(["--pipeline", "skin", "--data", str(data), "--model", str(folder)])
    card = load_card(folder)
    assert (folder / "weights.safetensors").read_bytes() == weights
    assert card.version != before.version
    unchanged = {"version", "clinical"}
    assert card.model_dump(exclude=unchanged) == before.model_dump(exclude=unchanged)
    assert card.clinical
    assert set(card.clinical.site) == {*SITES[:7], "back"}
    assert card.clinical.difference["accuracy"].low > 0

    evaluate.main(["--pipeline", "skin", "--data", str(data), "--model", str(folder)])
    assert "picture alone" in capsys.readouterr().out
    evaluate.main(["--pipeline", "skin", "--data", str(data), "--model", str(folder), "--json"])
    again = json.loads(capsys.readouterr().out)
    kept = card.clinical.model_dump(mode="json")
    assert again["clinical"] == {name: kept[name] for name in ("metrics", "difference")}
    gain = again["clinical"]["metrics"]["accuracy"]["value"] - again["accuracy"]["value"]
    assert gain == pytest.approx(kept["difference"]["accuracy"]["value"], abs=2e-4)


def test_a_run_with_clinical_data_ends_with_a_card_that_has_it(
    tree: Tree, config: TrainConfig, tmp_path: Path
) -> None:
    chosen = config.model_copy(update={"clinical": True, "epochs": 1})
    card = train.train(chosen, tree(told_plan()), tmp_path / "model")
    assert card.clinical
    assert card.clinical.metrics
    assert card == load_card(tmp_path / "model") == load_card(tmp_path / "model/run")


def test_every_wrong_value_is_told_before_the_first_epoch(
    tree: Tree, config: TrainConfig, tmp_path: Path
) -> None:
    rows = told_plan()
    rows[1] |= {"age": "forty", "localization": "moon"}
    rows[2] |= {"age": "121", "sex": "f"}
    data = tree(rows)
    with pytest.raises(BadData) as refused:
        train.train(config.model_copy(update={"clinical": True}), data, tmp_path / "model")
    assert len(refused.value.faults) == 4
    assert "moon" in str(refused.value)
    assert not (tmp_path / "model").exists()
    assert len(read_data(data, SKIN)) == len(rows), "they do no harm where nobody asks for them"


def test_a_network_that_saw_every_picture_is_not_taught(tree: Tree, tmp_path: Path) -> None:
    data, folder = tree(told_plan()), tmp_path / "models/skin"
    card = tiny_model(tmp_path / "models")
    truth = np.arange(14) % 7
    found = card_metrics(
        "5-fold", card.labels, [str(n) for n in truth], truth, np.eye(7)[truth], card.thresholds
    )
    save_card(card.model_copy(update={"metrics": found}), folder)
    with pytest.raises(SystemExit, match="5-fold"):
        clinical.main(["--pipeline", "skin", "--data", str(data), "--model", str(folder)])


def test_clinical_data_needs_a_split_and_a_classifier(
    xrays: Callable[..., Path], config: TrainConfig, segmenting: TrainConfig, tmp_path: Path
) -> None:
    with pytest.raises(ValidationError, match="not folds"):
        TrainConfig.model_validate(config.model_dump() | {"clinical": True, "folds": 3})
    chosen, data = segmenting.model_copy(update={"clinical": True, "folds": 0}), xrays()
    with pytest.raises(BadData, match="a segment head"):
        train.train(chosen, data, tmp_path / "model")
    tiny_model(tmp_path, "chest-xray")
    folder = str(tmp_path / "chest-xray")
    with pytest.raises(SystemExit, match="only a classify head"):
        clinical.main(["--pipeline", "chest-xray", "--data", str(data), "--model", folder])
