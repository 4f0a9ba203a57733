"""A job that tells age, sex and site, through the worker: what it finds, and what one that tells nothing finds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.cards import ModelCard, save_card
from shared.catalog import PIPELINES
from shared.clinical import Known
from shared.folder_storage import FolderStorage
from shared.settings import Settings
from shared.tables import JobRow
from tests.tiny import tiny_model, with_clinical
from tests.workers.test_vision import never, picture
from workers.explain import asking
from workers.serving import Models
from workers.vision import VisionStage

HEAD = PIPELINES["skin"].heads[0]
Found = Callable[..., dict[str, Any]]


@pytest.fixture
def card(tmp_path: Path) -> ModelCard:
    return with_clinical(tmp_path / "models", tiny_model(tmp_path / "models"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(models_dir=str(tmp_path / "models"), device="cpu", dtype="float32")


def found(settings: Settings, folder: Path, *jobs: dict[str, Any]) -> list[dict[str, Any]]:
    """The columns of jobs about one picture, all of one microbatch or of several."""
    models, storage = Models(settings), FolderStorage(folder / "blobs")
    storage.put("job/image", picture())
    stage = VisionStage(models, storage, settings)
    rows = [JobRow(id="job", pipeline="skin", lane="interactive", lang="en", lost=0, **job) for job in jobs]
    ends = [stage.begin(row, never) for row in rows]
    values = [end().values for end in ends]
    models.close()
    return values


def shares(values: dict[str, Any]) -> np.ndarray:
    by_label = {item["label"]: item["probability"] for item in values["findings"]}
    return np.array([by_label[label.code] for label in HEAD.labels])


@pytest.mark.parametrize("runtime", ["auto", "torch"])
def test_what_a_job_tells_moves_its_findings_as_the_card_says(
    card: ModelCard, settings: Settings, tmp_path: Path, runtime: Any
) -> None:
    chosen = Settings(**(vars(settings) | {"runtime": runtime}))
    told, silent = found(chosen, tmp_path, {"age": 50, "sex": "male", "site": "face"}, {})
    assert card.clinical
    says = np.mean(card.clinical.age, axis=0) + card.clinical.sex["male"] + card.clinical.site["face"]
    expected = shares(silent) * np.exp(says)
    assert shares(told) == pytest.approx(expected / expected.sum(), abs=1e-6)
    assert told["model"]["clinical"] == ["age", "sex", "site"]
    assert silent["model"]["clinical"] == []
    order = [item["probability"] for item in told["findings"]]
    assert order == sorted(order, reverse=True)


def test_a_job_that_tells_nothing_finds_what_the_picture_alone_says_to_the_bit(
    card: ModelCard, settings: Settings, tmp_path: Path
) -> None:
    nothing = [{}, {"age": None, "sex": "unknown", "site": "unknown"}, {"site": "genital"}]
    silent = found(settings, tmp_path, *nothing)
    save_card(card.model_copy(update={"clinical": None}), tmp_path / "models/skin")
    (alone,) = found(settings, tmp_path, {})
    assert [one["findings"] for one in silent] == [alone["findings"]] * 3


def test_an_explanation_holds_what_is_known_as_it_is(
    card: ModelCard, settings: Settings, tmp_path: Path
) -> None:
    models, random = Models(settings), np.random.default_rng(4)
    size = card.preprocess.size_px
    samples = [random.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in range(5)]
    served = models.served(HEAD)
    alone = np.array(asking(served, Known(), never)(samples))
    told = np.array(asking(served, Known(age=20, sex="female"), never)(samples))
    models.close()
    assert card.clinical
    expected = alone * np.exp(np.add(card.clinical.age[0], card.clinical.sex["female"]))
    assert told == pytest.approx(expected / expected.sum(axis=1, keepdims=True), abs=1e-6)
