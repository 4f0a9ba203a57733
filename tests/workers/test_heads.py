"""Jobs with several heads, segment heads and grade heads, on tiny networks."""

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from shared.cards import ModelCard, load_card, save_card
from shared.catalog import PIPELINES, SCALP_GRADES, Head
from shared.errors import CardMismatch
from shared.folder_storage import FolderStorage
from shared.images import Limits, decode
from shared.masks import enlarged
from shared.networks import load_network
from shared.preprocess import normalise, to_tensor
from shared.settings import Settings
from shared.tables import JobRow
from tests.tiny import tiny_model
from tests.workers.test_vision import never, picture
from workers.segment import smallest_areas
from workers.serving import Models
from workers.vision import VisionStage

SIZE = (90, 60)


@pytest.fixture
def storage(tmp_path: Path) -> FolderStorage:
    return FolderStorage(tmp_path / "blobs")


@pytest.fixture
def stage(tmp_path: Path, storage: FolderStorage) -> Iterator[Callable[..., VisionStage]]:
    """`stage()` serves whatever lies in the models' folder by then."""
    opened: list[Models] = []

    def make() -> VisionStage:
        settings = Settings(models_dir=str(tmp_path / "models"), device="cpu", dtype="float32")
        opened.append(Models(settings))
        return VisionStage(opened[-1], storage, settings)

    yield make
    for models in opened:
        models.close()


@pytest.fixture
def job(storage: FolderStorage) -> Callable[..., JobRow]:
    def make(pipeline: str, data: bytes | None = None, lang: str = "en") -> JobRow:
        storage.put("a/image", picture(3, SIZE) if data is None else data)
        return JobRow(id="a", pipeline=pipeline, lane="interactive", lang=lang, lost=0)

    return make


def by_hand(folder: Path, head: Head, pixels: np.ndarray) -> np.ndarray:
    """Logits of one picture without a worker, in plain float32."""
    card = load_card(folder)
    tensor = to_tensor(pixels, card.preprocess)
    with torch.inference_mode():
        return load_network(card, head, folder)(
            normalise(tensor[None], card.preprocess, torch.float32)
        ).numpy()[0]


def test_a_skin_job_is_classified_and_outlined(
    stage: Callable[..., VisionStage], job: Callable[..., JobRow], storage: FolderStorage, tmp_path: Path
) -> None:
    cards = [tiny_model(tmp_path / "models", name) for name in ("skin", "lesion")]
    found = stage().begin(job("skin"), never)()
    assert {item["label"] for item in found.values["findings"]} == set(cards[0].labels)
    assert found.values["model"]["name"] == "skin"
    assert [used["sha256"] for used in found.values["model"]["also"]] == [cards[1].sha256]
    assert [one.name for one in found.artifacts] == ["mask", "overlay"]
    with Image.open(io.BytesIO(storage.get("a/mask"))) as mask, storage.open("a/overlay") as shown:
        assert mask.size == Image.open(shown).size == SIZE
        counted = int((np.asarray(mask) == 1).sum())
    (segment,) = found.values["segments"]
    assert (segment["label"], segment["area_px"]) == ("lesion", counted)
    assert segment["area_fraction"] == pytest.approx(counted / 5400)


def test_without_the_lesion_weights_a_skin_job_says_nothing_of_areas(
    stage: Callable[..., VisionStage], job: Callable[..., JobRow], tmp_path: Path
) -> None:
    tiny_model(tmp_path / "models")
    found = stage().begin(job("skin"), never)()
    assert found.values.keys() == {"findings", "model"}
    assert found.values["model"]["also"] == []
    assert found.artifacts == ()


def test_the_skin_pipeline_does_not_work_on_the_lesion_weights_alone(
    stage: Callable[..., VisionStage], job: Callable[..., JobRow], tmp_path: Path
) -> None:
    tiny_model(tmp_path / "models", "lesion")
    served = stage()
    assert served._models.pipelines == ["lesion"]
    with pytest.raises(CardMismatch, match="skin"):
        served.begin(job("skin"), never)


@pytest.mark.parametrize("name", ["lesion", "chest-xray", "abdominal-xray"])
def test_a_mask_is_the_networks_own(
    stage: Callable[..., VisionStage],
    job: Callable[..., JobRow],
    storage: FolderStorage,
    tmp_path: Path,
    name: str,
) -> None:
    card, head = tiny_model(tmp_path / "models", name), PIPELINES[name].heads[0]
    found = stage().begin(job(name), never)()
    logits = torch.from_numpy(by_hand(tmp_path / "models" / name, head, decode(picture(3, SIZE), Limits())))
    expected = enlarged(torch.softmax(logits, 0).numpy(), SIZE, smallest_areas(card))
    with Image.open(io.BytesIO(storage.get("a/mask"))) as mask:
        assert (np.asarray(mask) == expected.mask).mean() > 0.999
    labels = [item["label"] for item in found.values["segments"]]
    assert labels == [card.labels[n] for n in np.unique(expected.mask).tolist() if n]
    assert "findings" not in found.values


def as_tiles(folder: Path) -> ModelCard:
    card = load_card(folder)
    preprocess = card.preprocess.model_copy(update={"crop": "tiles", "overlap_px": 8})
    card = card.model_copy(update={"preprocess": preprocess})
    save_card(card, folder)
    return card


@pytest.mark.parametrize("size", [(150, 70), (20, 90), (32, 32)])
def test_a_card_may_ask_for_tiles(
    stage: Callable[..., VisionStage],
    job: Callable[..., JobRow],
    storage: FolderStorage,
    tmp_path: Path,
    size: tuple[int, int],
) -> None:
    tiny_model(tmp_path / "models", "lesion", largest=2)  # fewer at once than there are tiles
    folder, head = tmp_path / "models/lesion", PIPELINES["lesion"].heads[0]
    as_tiles(folder)
    data = picture(5, size)
    stage().begin(job("lesion", data), never)()
    with Image.open(io.BytesIO(storage.get("a/mask"))) as mask:
        found = np.asarray(mask)
    assert found.shape == size[::-1]
    if size[0] >= 32 and size[1] >= 32:  # the first tile's corner is nobody else's
        corner = by_hand(folder, head, decode(data, Limits())[:32, :32])[:, :16, :16].argmax(axis=0)
        large = np.isin(found[:16, :16], corner)
        assert large.all()
        assert (found[:16, :16] == corner).mean() > 0.9  # but for areas that were too small


def test_a_stray_pixel_decides_nothing_whatever_the_network_says(
    stage: Callable[..., VisionStage], job: Callable[..., JobRow], tmp_path: Path
) -> None:
    card = tiny_model(tmp_path / "models", "abdominal-xray")
    everything = card.model_copy(update={"smallest_area": dict.fromkeys(card.smallest_area, 1.0)})
    save_card(everything, tmp_path / "models/abdominal-xray")
    found = stage().begin(job("abdominal-xray"), never)()
    assert found.values["segments"] == []


def test_a_picture_is_graded_for_every_condition_in_one_pass(
    stage: Callable[..., VisionStage], job: Callable[..., JobRow], tmp_path: Path
) -> None:
    tiny_model(tmp_path / "models", "scalp")
    head = PIPELINES["scalp"].heads[0]
    found = stage().begin(job("scalp", lang="ko"), never)().values["grades"]
    logits = by_hand(
        tmp_path / "models/scalp", head, decode(picture(3, SIZE), Limits(), at_least_px=32)
    ).reshape(6, 4)
    assert [grade["condition"] for grade in found] == [label.code for label in head.labels]
    assert [grade["grade"] for grade in found] == logits.argmax(axis=1).tolist()
    for grade in found:
        assert sum(grade["probabilities"]) == pytest.approx(1)
        assert grade["grade_name"] == SCALP_GRADES[grade["grade"]].ko


def test_six_cards_may_grade_six_conditions(
    stage: Callable[..., VisionStage],
    job: Callable[..., JobRow],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scalp = PIPELINES["scalp"]
    heads = tuple(
        Head("grade", f"scalp-{n}", (label,), SCALP_GRADES) for n, label in enumerate(scalp.labels, 1)
    )
    one = tiny_model(tmp_path / "models", "scalp")
    monkeypatch.setitem(PIPELINES, "scalp", replace(scalp, heads=heads))
    for n, head in enumerate(heads):
        card = tiny_model(tmp_path / "models", "scalp", head=head, seed=n)
        assert card.labels == (one.labels[n],)
    found = stage().begin(job("scalp"), never)()
    assert [grade["condition"] for grade in found.values["grades"]] == list(one.labels)
    assert len(found.values["model"]["also"]) == 5


def test_nothing_is_stored_for_a_job_that_was_lost_meanwhile(
    stage: Callable[..., VisionStage], job: Callable[..., JobRow], storage: FolderStorage, tmp_path: Path
) -> None:
    tiny_model(tmp_path / "models", "lesion")
    found = stage().begin(job("lesion"), lambda: True)()
    assert found.artifacts == ()
    assert not storage.exists("a/mask")
