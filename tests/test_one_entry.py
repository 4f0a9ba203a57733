"""A new pipeline is one entry of the catalogue: from a folder of pictures to an answer, with nothing else changed."""

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from flask.testing import FlaskClient
from PIL import Image, ImageDraw

from api.app import create_app
from api.services import Services
from shared.cards import load_card
from shared.catalog import PIPELINES, Head, HeadKind, Label, Pipeline
from shared.networks import build_network
from shared.settings import Settings
from tests.api.driving import ONE_DATABASE, get, submitted
from tests.servers import Redis
from training import train
from training.config import load_config, recipe_of, shipped
from workers.answer import AnswerStage
from workers.attempt import Attempts, Stage
from workers.phrases import PHRASES
from workers.refill import Refiller
from workers.serving import Models
from workers.vision import VisionStage

COLOURS = {"disc": (200, 40, 40), "square": (40, 160, 60), "cross": (50, 70, 210), "bar": (220, 200, 40)}
ENTRY = Pipeline(
    "shapes",
    Label("shapes", "Drawn shape", "그린 도형", "Forme dessinée"),
    "drawing",
    (
        Head(
            "classify",
            "shapes-net",  # not the pipeline's name, which nothing may rely on
            (
                Label("disc", "Disc", "원반", "Disque"),
                Label("square", "Square", "정사각형", "Carré"),
                Label("cross", "Cross", "십자", "Croix", sensitivity=0.95),
                Label("bar", "Bar", "막대", "Barre"),
            ),
        ),
    ),
)
# What a lab would write: everything that has no default. The pipeline need not be named.
TINY = """
network = "test_efficientnet"
seed = 3
cache_px = 48
first_px = 32
last_px = 32
serve_px = 32
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
epochs = 4
microbatch = 8
learning_rate = 0.01
weight_decay = 0.01
drop = 0.0
drop_path = 0.0
ema = 0.8
precision = "float32"
data = "drawn shapes"
licence = "none"
"""


def drawn(code: str, seed: int) -> bytes:
    """A shape of its own colour on grey noise."""
    random = np.random.default_rng(seed)
    ground = Image.fromarray(random.integers(90, 130, (48, 64, 3), dtype=np.uint8))
    pen, (x, y) = ImageDraw.Draw(ground), random.integers(8, 20, 2).tolist()
    if code == "disc":
        pen.ellipse((x, y, x + 24, y + 24), COLOURS[code])
    elif code == "square":
        pen.rectangle((x, y, x + 22, y + 22), COLOURS[code])
    elif code == "bar":
        pen.rectangle((x, y + 8, x + 34, y + 16), COLOURS[code])
    else:
        pen.line((x, y, x + 24, y + 24), COLOURS[code], 7)
        pen.line((x + 24, y, x, y + 24), COLOURS[code], 7)
    file = io.BytesIO()
    ground.save(file, "PNG")
    return file.getvalue()


def folder_of_pictures(folder: Path, each: int = 28) -> Path:
    """Pictures in one folder, and a csv that says what they show."""
    (folder / "pictures").mkdir(parents=True)
    with (folder / "samples.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label"])
        for number in range(4 * each):
            code = list(COLOURS)[number % 4]
            name = f"pictures/{number:03}.png"
            (folder / name).write_bytes(drawn(code, number))
            writer.writerow([name, code])
    return folder


@pytest.fixture(autouse=True)
def entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PIPELINES, ENTRY.name, ENTRY)
    monkeypatch.setattr("training.metrics.DRAWS", 60)


@pytest.fixture
def rooms(settings: Callable[..., Settings], tmp_path: Path) -> Iterator[Services]:
    opened = Services.open(settings(models_dir=str(tmp_path / "models"), device="cpu", dtype="float32"))
    yield opened
    opened.close()


def listed(client: FlaskClient) -> dict[str, object]:
    items = client.get("/v1/pipelines").get_json()["items"]
    return next(item for item in items if item["name"] == "shapes")


def work_off(stage: Stage, rooms: Services, job_id: str) -> None:
    """One worker's message, here and now."""
    refiller = Refiller(rooms.db, rooms.dispatcher, rooms.hints, rooms.settings)
    attempts = Attempts(stage, rooms.db, rooms.dispatcher, rooms.hints, rooms.settings, refiller)
    assert attempts.message([job_id]) == 1
    attempts.close()
    refiller.close()


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@ONE_DATABASE
def test_four_labels_go_from_a_folder_to_an_answer_by_one_entry(
    rooms: Services, broker: Redis, tmp_path: Path, one_thread: None
) -> None:
    client = create_app(rooms.settings, rooms).test_client()
    assert listed(client)["available"] is False
    assert listed(client)["train_command"] == "make train PIPELINE=shapes DATA=<folder>"

    data, recipe = folder_of_pictures(tmp_path / "lab"), tmp_path / "tiny.toml"
    recipe.write_text(TINY)
    models = rooms.settings.models_path
    train.main(
        [
            "--pipeline", "shapes", "--data", str(data), "--config", str(recipe),
            "--out", str(models / "shapes-net"), "--run-folder", str(tmp_path / "run"),
        ]
    )  # fmt: skip
    card = load_card(models / "shapes-net")
    assert card.labels == ("disc", "square", "cross", "bar")
    assert card.metrics
    assert card.metrics.accuracy.value > 0.5  # 0.25 by chance
    found = listed(client)
    assert found["available"] is True
    assert [label["code"] for label in found["labels"]] == list(card.labels)

    job_id = submitted(
        client, image=drawn("disc", 999), pipeline="shapes", question="What is it?", lang="fr"
    )["id"]
    with broker.client() as redis:
        assert redis.llen("vision.shapes.interactive") == 1
    serving = Models(rooms.settings)
    assert serving.pipelines == ["shapes"]
    work_off(VisionStage(serving, rooms.storage, rooms.settings), rooms, job_id)
    work_off(AnswerStage(None, max_attempts=3), rooms, job_id)
    serving.close()

    job = get(client, job_id).get_json()
    assert job["status"] == "succeeded"
    assert {one["label"]: one["name"] for one in job["findings"]} == {
        label.code: label.fr for label in ENTRY.labels
    }
    assert sum(one["probability"] for one in job["findings"]) == pytest.approx(1, abs=1e-4)
    assert job["findings"][0]["label"] == "disc"
    assert job["answer"]["source"] == "reference"
    assert job["answer"]["citations"] == []
    assert job["answer"]["urgency"] == "routine"
    assert PHRASES["fr"].no_text.format(names="Disque") in job["answer"]["text"]
    assert "dermatolog" not in job["answer"]["text"]


@pytest.mark.parametrize("kind", ["classify", "grade", "segment"])
def test_a_pipeline_without_a_recipe_has_one_for_its_kind_of_head(kind: HeadKind) -> None:
    head = Head(kind, "new", ENTRY.labels, grades=PIPELINES["scalp"].heads[0].grades)
    pipeline = Pipeline("new", ENTRY.title, "drawing", (head,))
    config = load_config(recipe_of(pipeline), pipeline.name)
    assert config.pipeline == "new"
    build_network(config.architecture, head)


def test_weights_are_written_where_workers_look_for_them() -> None:
    assert shipped(ENTRY).parts[-3:] == ("workers", "models", "shapes-net")
