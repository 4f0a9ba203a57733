"""The explain stage: LIME and the class-activation map of a network whose reasons are known."""

import io
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lime.lime_image import LimeImageExplainer
from PIL import Image

from shared import jobs
from shared.cards import save_card
from shared.catalog import PIPELINES
from shared.errors import ImageFailed, OutOfMemory
from shared.folder_storage import FolderStorage
from shared.networks import Classifier, load_network
from shared.preprocess import normalise
from shared.settings import Settings
from shared.tables import JobRow
from tests.tiny import tiny_model
from tests.workers.test_vision import never, picture
from workers.activation import activation_map
from workers.explain import AGAINST, FOR, ExplainStage, enlarged_to, strongest
from workers.lime import SAMPLES, BatchedLime, Stopped, hidden, lime_weights, superpixels, through
from workers.microbatch import RANKS, Microbatcher
from workers.serving import Models
from workers.vision import VisionStage

SIZE = (90, 60)
SKIN = PIPELINES["skin"].heads[0]


def disc(size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """A dark disc on a light ground, and where it is."""
    y, x = np.mgrid[:size, :size]
    inside = (x - size * 0.3) ** 2 + (y - size * 0.35) ** 2 < (size * 0.18) ** 2
    noise = np.random.default_rng(0).integers(-6, 7, (size, size, 3))
    ground = np.where(inside[..., None], (70, 40, 30), (220, 180, 160)) + noise
    return ground.clip(0, 255).astype(np.uint8), inside


def darkness(pictures: Iterable[np.ndarray]) -> list[list[float]]:
    """A network that calls a picture by its dark pixels: it has one reason, and we know it."""
    shares = [float((picture.mean(axis=2) < 100).mean()) for picture in pictures]
    return [[1 - share, share] for share in shares]


@pytest.mark.parametrize("samples", SAMPLES.values())
def test_lime_finds_the_reason(samples: int) -> None:
    shown, inside = disc()
    weights = lime_weights(shown, 1, samples, 7, darkness)
    assert weights[inside].mean() > 5 * abs(weights[~inside].mean())
    assert (weights[inside] > 0).mean() > 0.9
    assert (lime_weights(shown, 0, samples, 7, darkness)[inside] < 0).mean() > 0.9


def test_lime_says_the_same_with_the_same_seed_and_another_with_another() -> None:
    shown, _ = disc()
    first = lime_weights(shown, 1, 50, 7, darkness)
    assert np.array_equal(first, lime_weights(shown, 1, 50, 7, darkness))
    assert not np.array_equal(first, lime_weights(shown, 1, 50, 8, darkness))


def test_our_lime_is_the_packages_with_another_loop() -> None:
    shown, _ = disc(64)
    areas = superpixels(shown)
    arguments: dict[str, Any] = {
        "labels": (1,), "hide_color": 210, "top_labels": None, "num_samples": 60, "segmentation_fn": lambda _: areas,
    }  # fmt: skip
    theirs = LimeImageExplainer(feature_selection="none", random_state=3)
    ours = BatchedLime(3).explain_instance(shown, darkness, random_seed=3, **arguments)
    expected = theirs.explain_instance(shown, darkness, random_seed=3, **arguments)
    assert dict(ours.local_exp[1]) == pytest.approx(dict(expected.local_exp[1]))


def test_what_a_sample_leaves_out_is_the_other_pictures() -> None:
    random = np.random.default_rng(3)
    first, second = (random.integers(0, 256, (40, 40, 3), dtype=np.uint8) for _ in range(2))
    areas = random.integers(0, 9, (40, 40))
    kept = random.integers(0, 2, (20, 9), dtype=np.uint8)
    for row, shown in zip(kept, hidden(first, second, areas, kept), strict=True):
        assert np.array_equal(shown, np.where(row.astype(bool)[areas][..., None], first, second))


def test_superpixels_are_numbered_without_gaps_even_on_a_blank_picture() -> None:
    for shown in (disc()[0], np.full((96, 96, 3), 200, np.uint8)):
        found = np.unique(superpixels(shown))
        assert found.tolist() == list(range(len(found)))


def test_samples_go_last_in_line_and_two_microbatches_are_under_way() -> None:
    seen: list[list[int]] = []
    gate = threading.Event()

    def run(tensors: list[torch.Tensor]) -> list[list[float]]:
        gate.wait(60)
        seen.append([int(tensor[0, 0, 0]) for tensor in tensors])
        return [[float(tensor[0, 0, 0])] for tensor in tensors]

    batcher: Microbatcher[torch.Tensor, list[float]] = Microbatcher(run, largest=4, name="test")
    made: list[int] = []

    def samples() -> Iterator[np.ndarray]:
        for number in range(40):
            made.append(number)
            if number == 5:
                batcher.submit(torch.full((3, 8, 8), 200, dtype=torch.uint8), RANKS["bulk"])
            if number == 7:
                gate.set()  # by then no more than two microbatches may have been made
            yield np.full((8, 8, 3), number, np.uint8)

    rows = through(batcher, samples(), never)
    batcher.close()
    assert [row[0] for row in rows] == list(range(40))
    order = [number for microbatch in seen for number in microbatch]
    assert order.index(200) <= 4, "a job that was handed in later goes first"


def test_samples_stop_when_nobody_wants_them() -> None:
    batcher: Microbatcher[torch.Tensor, list[float]] = Microbatcher(
        lambda tensors: [[0.5] for _ in tensors], largest=2, name="test"
    )
    made = 0

    def samples() -> Iterator[np.ndarray]:
        nonlocal made
        for _ in range(1000):
            made += 1
            yield np.zeros((8, 8, 3), np.uint8)

    with pytest.raises(Stopped):
        through(batcher, samples(), lambda: True)
    batcher.close()
    assert made <= 5


def test_the_activation_map_is_the_share_of_each_superpixels_places_in_the_logit(tmp_path: Path) -> None:
    card = tiny_model(tmp_path)
    large = card.preprocess.model_copy(update={"size_px": 128})  # so that there are several places
    network = load_network(card, SKIN, tmp_path / "skin")
    card = card.model_copy(update={"preprocess": large})
    assert isinstance(network, Classifier)
    tensor = torch.from_numpy(disc(128)[0]).permute(2, 0, 1)
    batch = normalise(tensor[None], card.preprocess, torch.float32)
    with torch.inference_mode():
        features = network.body.forward_features(batch)[0]  # type: ignore[operator]
        layer = network.last_layer()
        grid = torch.einsum("c,chw->hw", layer.weight[4], features)  # type: ignore[arg-type,index]
        assert float(grid.mean() + layer.bias[4]) == pytest.approx(float(network(batch)[0, 4]), abs=1e-4)  # type: ignore[index,operator]
    smooth = torch.nn.functional.interpolate(grid[None, None], (128, 128), mode="bilinear")[0, 0].numpy()
    areas, expected = superpixels(disc(128)[0]), np.zeros((128, 128))
    for area in range(areas.max() + 1):
        expected[areas == area] = smooth[areas == area].mean()
    assert len(np.unique(expected)) > 20
    expected = (expected - expected.min()) / max(np.ptp(expected), 1e-12)
    assert activation_map(network, card, tensor, 4) == pytest.approx(expected, abs=1e-4)


def test_where_all_places_are_alike_the_activation_map_shows_none(tmp_path: Path) -> None:
    card = tiny_model(tmp_path)  # which sees 32 px: a single place
    network = load_network(card, SKIN, tmp_path / "skin")
    assert isinstance(network, Classifier)
    tensor = torch.from_numpy(disc(32)[0]).permute(2, 0, 1)
    assert superpixels(disc(32)[0]).max() > 0
    assert not activation_map(network, card, tensor, 4).any()


def test_the_strongest_superpixels_are_shown_by_what_they_speak_for() -> None:
    weights = np.array([[0.9, -0.8, 0.1, 0.3], [0.2, -0.05, 0.0, -0.4]])
    assert strongest(weights).tolist() == [[FOR, AGAINST, 0, FOR], [FOR, 0, 0, AGAINST]]
    assert not strongest(np.zeros((4, 4))).any()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    card = tiny_model(tmp_path / "models")
    seen = card.preprocess.model_copy(update={"size_px": 96})  # so that an activation map has several places
    save_card(card.model_copy(update={"preprocess": seen}), tmp_path / "models/skin")
    return Settings(models_dir=str(tmp_path / "models"), device="cpu", dtype="float32")


@pytest.fixture
def models(settings: Settings) -> Iterator[Models]:
    loaded = Models(settings)
    yield loaded
    loaded.close()


@pytest.fixture
def storage(tmp_path: Path) -> FolderStorage:
    return FolderStorage(tmp_path / "blobs")


@pytest.fixture
def seen(models: Models, storage: FolderStorage, settings: Settings) -> JobRow:
    """A job behind its vision stage, whose explanation was asked for."""
    storage.put("a/image", picture(4, SIZE))
    job = JobRow(id="a", pipeline="skin", lane="interactive", lang="en", lost=0, explain="low")
    found = VisionStage(models, storage, settings).begin(job, never)()
    job.findings = found.values["findings"]
    return job


def test_a_job_gets_both_overlays_in_its_own_size(
    models: Models, storage: FolderStorage, settings: Settings, seen: JobRow
) -> None:
    found = ExplainStage(models, storage, settings).begin(seen, never)()
    assert [one.name for one in found.artifacts] == ["explanation", "activation"]
    original = np.asarray(Image.open(io.BytesIO(storage.get("a/image")))).astype(int)
    for one in found.artifacts:
        assert one.media_type == "image/jpeg"
        with Image.open(io.BytesIO(storage.get(f"a/{one.name}"))) as shown:
            assert shown.size == SIZE
            changed = np.abs(np.asarray(shown).astype(int) - original).max(axis=2) > 25
        assert changed[:, 15:75].any(), "what the network saw is tinted"
        assert not changed[:, :12].any(), "what it did not see is left alone"


def test_what_is_explained_is_what_was_classified(
    models: Models, storage: FolderStorage, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large JPEG, which is decoded at a smaller scale."""
    shown: list[torch.Tensor] = []
    batcher = models.served(SKIN).batcher
    submit, mapped = batcher.submit, activation_map

    def spied(tensor: torch.Tensor, rank: int) -> Any:
        shown.append(tensor.clone())
        return submit(tensor, rank)

    def seen_map(network: Any, card: Any, tensor: torch.Tensor, label: int) -> Any:
        shown.append(tensor.clone())
        return mapped(network, card, tensor, label)

    monkeypatch.setattr(batcher, "submit", spied)
    monkeypatch.setattr("workers.explain.activation_map", seen_map)
    noise = np.random.default_rng(1).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG", quality=90)
    storage.put("a/image", file.getvalue())
    job = JobRow(id="a", pipeline="skin", lane="interactive", lang="en", lost=0, explain="low")
    job.findings = VisionStage(models, storage, settings).begin(job, never)().values["findings"]
    found = ExplainStage(models, storage, settings).begin(job, never)()
    classified, whole_sample, *_, mapped_one = shown
    assert len(shown) == 1 + SAMPLES["low"] + 1
    assert torch.equal(whole_sample, classified)
    assert torch.equal(mapped_one, classified)
    for one in found.artifacts:
        with Image.open(io.BytesIO(storage.get(f"a/{one.name}"))) as overlay:
            assert overlay.size == (400, 300)


def test_a_second_attempt_explains_the_same(
    models: Models, storage: FolderStorage, settings: Settings, seen: JobRow
) -> None:
    stage = ExplainStage(models, storage, settings)
    first, second = (stage.begin(seen, never)().artifacts for _ in range(2))
    assert first == second


def test_a_job_that_was_canceled_meanwhile_gets_nothing(
    models: Models, storage: FolderStorage, settings: Settings, seen: JobRow
) -> None:
    seen.explain = "medium"
    found = ExplainStage(models, storage, settings).begin(seen, lambda: True)()
    assert found.artifacts == ()
    assert not storage.exists("a/explanation")


def test_a_picture_that_is_gone_fails_the_explanation(
    models: Models, storage: FolderStorage, settings: Settings, seen: JobRow
) -> None:
    storage.erase("a")
    stage = ExplainStage(models, storage, settings)
    with pytest.raises(ImageFailed):
        stage.begin(seen, never)()
    seen.warnings = [{"code": "low_quality", "detail": "blurred"}]
    warnings = stage.spare(seen, OutOfMemory()).values["warnings"]
    assert [warning["code"] for warning in warnings] == ["low_quality", "explanation_failed"]


def test_what_the_network_saw_goes_back_to_its_place(models: Models) -> None:
    square = np.zeros((32, 32), np.uint8)
    square[:16] = FOR
    mask = enlarged_to(square, np.zeros((60, 90, 3), np.uint8), models.served(SKIN))
    assert mask[:30, 15:75].all()
    assert mask.sum() == 30 * 60


def test_an_explanation_that_is_lost_for_good_leaves_the_job_its_answer(
    database: Any, job_factory: Callable[..., Any]
) -> None:
    made = job_factory(explain="low", stage="explain")
    for attempt in range(3):
        claim = jobs.claim(database, [made.id], "explain", "w", lease_s=-1, limit_s=60)
        assert len(claim.jobs) == 1, attempt
        jobs.reap(database, 3)
    row = database.read(lambda session: session.get_one(JobRow, made.id))
    assert (row.status, row.error_slug) == ("succeeded", None)
    assert [warning["code"] for warning in row.warnings] == ["explanation_failed"]
