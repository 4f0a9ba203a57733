"""The vision stage on a tiny network: bytes in storage to findings."""

import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from shared.catalog import PIPELINES
from shared.errors import CardMismatch, ImageFailed, OutOfMemory, UnreadableImage
from shared.figures import Figures
from shared.folder_storage import FolderStorage
from shared.images import Limits, decode
from shared.networks import load_network
from shared.preprocess import normalise, to_tensor
from shared.settings import Settings
from shared.steps import Step, kept
from shared.tables import JobRow
from tests.tiny import tiny_model
from workers.decode_alone import decode_alone
from workers.runtime import torch_runtime
from workers.serving import Forward, Models, pick_dtype
from workers.vision import VisionStage

HEAD = PIPELINES["skin"].heads[0]


def picture(seed: int = 0, size: tuple[int, int] = (60, 45)) -> bytes:
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    file = io.BytesIO()
    coarse.resize(size).save(file, "JPEG", quality=90)
    return file.getvalue()


@pytest.fixture
def chosen(tmp_path: Path) -> Settings:
    tiny_model(tmp_path / "models")
    return Settings(models_dir=str(tmp_path / "models"), device="cpu", dtype="float32")


@pytest.fixture
def models(chosen: Settings) -> Iterator[Models]:
    loaded = Models(chosen)
    yield loaded
    loaded.close()


@pytest.fixture
def storage(tmp_path: Path) -> FolderStorage:
    return FolderStorage(tmp_path / "blobs")


@pytest.fixture
def stage(models: Models, storage: FolderStorage, chosen: Settings) -> VisionStage:
    return VisionStage(models, storage, chosen)


@pytest.fixture
def job(storage: FolderStorage) -> Callable[..., JobRow]:
    def make(name: str, data: bytes, **columns: object) -> JobRow:
        storage.put(f"{name}/image", data)
        return JobRow(id=name, pipeline="skin", lane="interactive", lang="en", lost=0, **columns)

    return make


def never() -> bool:
    return False


def by_hand(data: bytes, folder: Path) -> NDArray[np.float64]:
    """The same network without a worker: one picture, plain float32, softmax by numpy."""
    card = tiny_model(folder)
    network = load_network(card, HEAD, folder / "skin")
    pixels = decode(data, Limits(), at_least_px=card.preprocess.size_px)
    tensor = to_tensor(pixels, card.preprocess)
    with torch.inference_mode():
        logits = network(normalise(tensor[None], card.preprocess, torch.float32))[0].double().numpy()
    exponents = np.exp((logits - logits.max()) / card.temperature)
    return np.asarray(exponents / exponents.sum())


def test_findings_are_the_networks_own(
    stage: VisionStage, job: Callable[..., JobRow], tmp_path: Path
) -> None:
    pictures = [picture(seed) for seed in range(12)]
    ends = [stage.begin(job(f"job{n}", data), never) for n, data in enumerate(pictures)]
    for data, end in zip(pictures, ends, strict=True):
        found = {item["label"]: item["probability"] for item in end().values["findings"]}
        expected = by_hand(data, tmp_path / "again")
        assert [found[label.code] for label in HEAD.labels] == pytest.approx(expected, abs=1e-5)


def test_a_trace_is_told_of_decoding_and_of_the_pass(stage: VisionStage, job: Callable[..., JobRow]) -> None:
    steps: list[Step] = []
    with kept(steps):
        stage.begin(job("job", picture()), never)()
    assert [one.name for one in steps] == ["decode", "forward skin"]
    assert steps[0].ended_ns <= steps[1].ended_ns


def test_decoding_and_passes_are_counted_and_the_warm_up_is_not(
    chosen: Settings, storage: FolderStorage, job: Callable[..., JobRow]
) -> None:
    figures = Figures()
    loaded = Models(chosen, figures)
    one = VisionStage(loaded, storage, chosen, figures)
    assert figures.values()['medq_forward_seconds_count{"head": "skin"}'] == 0
    for end in [one.begin(job(f"job{n}", picture(n)), never) for n in range(5)]:
        end()
    loaded.close()
    values = figures.values()
    assert values["medq_decode_seconds_count{}"] == 5
    assert values['medq_microbatch_pictures_total{"head": "skin"}'] == 5
    passes = values['medq_forward_seconds_count{"head": "skin"}']
    assert 1 <= passes == values['medq_microbatch_fill_count{"head": "skin"}'] <= 5
    assert values["medq_device_busy_seconds_total{}"] > 0


def test_findings_come_most_probable_first_and_sum_to_one(
    stage: VisionStage, job: Callable[..., JobRow]
) -> None:
    found = stage.begin(job("a", picture()), never)().values
    values = [item["probability"] for item in found["findings"]]
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(1)
    assert found["model"]["version"] == "tiny.0"


def test_names_are_in_the_jobs_language(stage: VisionStage, job: Callable[..., JobRow]) -> None:
    row = job("a", picture())
    row.lang = "ko"
    names = {item["label"]: item["name"] for item in stage.begin(row, never)().values["findings"]}
    assert names["mel"] == "흑색종"


def test_a_damaged_picture_fails_for_good(stage: VisionStage, job: Callable[..., JobRow]) -> None:
    with pytest.raises(ImageFailed):
        stage.begin(job("a", picture()[:400]), never)


def test_a_picture_that_was_erased_meanwhile_fails_for_good(
    stage: VisionStage, storage: FolderStorage, job: Callable[..., JobRow]
) -> None:
    row = job("a", picture())
    storage.erase("a")
    with pytest.raises(ImageFailed):
        stage.begin(row, never)


def test_a_job_that_was_lost_is_decoded_apart_with_the_same_findings(
    stage: VisionStage, job: Callable[..., JobRow]
) -> None:
    row = job("a", picture())
    near = stage.begin(row, never)().values["findings"]
    row.lost = 1
    assert stage.begin(row, never)().values["findings"] == near


def test_decoding_apart_says_what_is_wrong_and_survives_it() -> None:
    data = picture()
    limits = Limits()
    assert np.array_equal(decode_alone(data, limits, 32), decode(data, limits, at_least_px=32))
    with pytest.raises(UnreadableImage) as near:
        decode(data[:400], limits)
    with pytest.raises(ImageFailed) as apart:
        decode_alone(data[:400], limits, 32)
    assert apart.value.detail == near.value.detail


def test_out_of_memory_is_told_apart_from_other_faults(chosen: Settings, tmp_path: Path) -> None:
    card = tiny_model(tmp_path / "models")
    network = load_network(card, HEAD, tmp_path / "models/skin")
    forward = Forward(torch_runtime(network, card, torch.device("cpu"), torch.float32), card)
    size = card.preprocess.size_px
    fine = torch.zeros((3, size, size), dtype=torch.uint8)
    assert len(forward([fine])) == 1
    with pytest.raises(OutOfMemory):
        # A picture that claims more memory than there is: expanded, so that making it costs nothing.
        forward([fine[:, :1, :1].expand(3, 2**22, 2**22)])
    with pytest.raises(RuntimeError):
        forward([fine, fine[:, :4, :4]])


def test_a_worker_refuses_weights_that_are_not_the_cards(chosen: Settings) -> None:
    weights = chosen.models_path / "skin/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    with pytest.raises(CardMismatch, match="sha256"):
        Models(chosen)


def test_a_new_card_replaces_the_network_and_a_bad_one_does_not(models: Models, chosen: Settings) -> None:
    tiny_model(chosen.models_path, seed=1)
    models._replace("skin", HEAD)
    assert models.served(HEAD).card.version == "tiny.1"
    card = chosen.models_path / "skin/card.json"
    card.write_text(card.read_text().replace('"mel"', '"melanoma"'))
    models._replace("skin", HEAD)
    assert models.served(HEAD).card.version == "tiny.1"


def test_closing_ends_every_thread_also_those_of_a_network_that_was_replaced(chosen: Settings) -> None:
    before = set(threading.enumerate())
    models = Models(chosen)
    models.watch()
    tiny_model(chosen.models_path, seed=1)
    models._replace("skin", HEAD)
    assert len(set(threading.enumerate()) - before) >= 4, "two networks, the watch and the timer"
    models.close()
    assert set(threading.enumerate()) <= before


def test_the_watch_sees_a_new_card(models: Models, chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.serving.RELOAD_S", 0.01)
    models.watch()
    tiny_model(chosen.models_path, seed=2)
    for _ in range(3000):
        if models.served(HEAD).card.version == "tiny.2":
            return
        threading.Event().wait(0.02)
    pytest.fail("the new card was not picked up")


def test_a_pipeline_without_weights_is_not_served(models: Models) -> None:
    assert models.pipelines == ["skin"]
    with pytest.raises(CardMismatch, match="no weights for scalp"):
        models.served(PIPELINES["scalp"].heads[0])


@pytest.mark.parametrize(
    ("asked", "deviation", "given"),
    [
        ("bfloat16", None, {torch.bfloat16}),
        ("float32", 0.0, {torch.float32}),
        ("auto", None, {torch.float32}),
        ("auto", 0.021, {torch.float32}),
        ("auto", 0.019, {torch.float32, torch.bfloat16}),  # as the processor has it
    ],
)
def test_half_the_precision_is_used_where_the_card_shows_equal_findings(
    chosen: Settings, asked: str, deviation: float | None, given: set[torch.dtype]
) -> None:
    card = tiny_model(chosen.models_path).model_copy(update={"bfloat16_deviation": deviation})
    settings = replace(chosen, dtype=asked)  # type: ignore[arg-type]
    assert pick_dtype(settings, torch.device("cpu"), card) in given


def test_half_the_precision_is_refused_where_the_card_shows_other_findings(chosen: Settings) -> None:
    card = tiny_model(chosen.models_path).model_copy(update={"bfloat16_deviation": 0.021})
    with pytest.raises(CardMismatch, match="MEDQ_DTYPE"):
        pick_dtype(replace(chosen, dtype="bfloat16"), torch.device("cpu"), card)
