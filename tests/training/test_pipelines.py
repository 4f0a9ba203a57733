"""Pipelines without real pictures, trained from drawn trees of their published layout, from files to card."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.cards import GradeMetrics, SegmentMetrics, load_card
from shared.catalog import PIPELINES, Head, Label, Pipeline
from shared.networks import load_network
from tests.training.conftest import HUES, drawn
from training import evaluate, importers
from training.config import Augment, TrainConfig
from training.train import train

FOLDERS = ("1.Pyloric_Stenosis", "2.Pneumoperitoneum", "3.Air_Fluid_Level", "4.Constipation", "5.Normal")


def graded_tree(folder: Path) -> Path:
    """Pictures whose brightness is the grade of every condition but the last, whose grade is unknown."""
    for number in range(48):
        grade, person = number % 4, number // 4
        stem = f"{person:04}_A2LEBJJDE00060O_{number}_TH"
        told = {"image_file_name": f"{stem}.jpg", "value_6": ""}
        place = folder / "training" / f"[원천]피지과다_{grade}.양호"
        labels = folder / "training" / f"[라벨]피지과다_{grade}.양호"
        for one in (place, labels):
            one.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(60 * grade, 60 * grade + 40, (40, 40, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{stem}.jpg")
        told |= {f"value_{n}": str(grade) for n in range(1, 6)}
        (labels / f"{stem}.json").write_text(json.dumps(told, ensure_ascii=False))
    return folder


def test_scalp_grades_six_conditions_in_one_pass(config: TrainConfig, tmp_path: Path) -> None:
    still = Augment(brightness=0, contrast=0, balance=0, saturation=0, shift=0)
    graded = config.model_copy(
        update={
            "pipeline": "scalp",
            "class_weights": "balanced",
            "mixup": 0.0,
            "epochs": 10,
            "augment": still,
        }
    )
    data, out = graded_tree(tmp_path / "scalp"), tmp_path / "out"
    head = PIPELINES["scalp"].heads[0]
    with pytest.raises(importers.BadData, match="hair_loss: the training pictures have fewer than two"):
        train(graded, data, out, tmp_path / "run")
    for path in data.rglob("*.json"):
        told = json.loads(path.read_text())
        if int(path.stem.split("_")[2]) % 8 < 7:
            path.write_text(json.dumps(told | {"value_6": told["value_1"]}))
    card = train(graded, data, out, tmp_path / "run")
    assert card == load_card(out)
    assert isinstance(card.metrics, GradeMetrics)
    found = card.metrics.conditions
    assert list(found) == [label.code for label in head.labels]
    assert found["excess_sebum"].balanced_accuracy.value > 0.5  # 0.25 by chance
    assert sum(found["hair_loss"].support) < sum(found["dandruff"].support)
    assert card.grades == ("0", "1", "2", "3")
    load_network(card, head, out)


def abdominal_tree(folder: Path) -> Path:
    for split, shots in (("Train", range(4)), ("Validate", range(4, 6)), ("Test", range(6, 8))):
        for number, disease in enumerate(FOLDERS, 1):
            for shot in shots:
                name, left = f"{number}_{1625 + shot}", 4 + shot
                sources, labels = (
                    folder / split / part / disease for part in ("Source_Data", "Labeling_Data")
                )
                for one in (sources, labels):
                    one.mkdir(parents=True, exist_ok=True)
                pixels = np.random.default_rng(10 * number + shot).integers(0, 20, (48, 48)).astype(np.uint8)
                corners = [[left, 8], [left + 30, 8], [left + 30, 38], [left, 38]]
                if number < 5:
                    pixels[8:39, left : left + 31] += np.uint8(50 * number)
                shapes = [{"points": corners, "class": number}] if number < 5 else []
                Image.fromarray(pixels).save(sources / f"{name}.png")
                (labels / f"{name}.json").write_text(json.dumps({"shapes": shapes}))
    return folder


def test_abdominal_xrays_go_from_polygons_to_a_card(
    segmenting: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = segmenting.model_copy(
        update={
            "pipeline": "abdominal-xray", "folds": 0, "epochs": 16, "learning_rate": 0.02,
            "loss_weights": (0.1, 1.0, 1.0, 1.0, 1.0), "keep_best": "mean_dice",
            "augment": Augment(turn_deg=0, flip=False, brightness=0, contrast=0, balance=0, blur=0, zoom=(1, 1)),
        }
    )  # fmt: skip
    data, out = abdominal_tree(tmp_path / "abdomen"), tmp_path / "out"
    card = train(recipe, data, out, tmp_path / "run")
    assert isinstance(card.metrics, SegmentMetrics)
    assert card.metrics.images == 10
    assert card.metrics.mean_dice.value > 0.25
    capsys.readouterr()
    evaluate.main(["--pipeline", "abdominal-xray", "--data", str(data), "--model", str(out), "--json"])
    assert json.loads(capsys.readouterr().out) == card.metrics.model_dump(mode="json")


def test_a_new_pipeline_is_one_catalog_entry_and_a_table(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = ("akiec", "df", "nv", "vasc")
    labels = tuple(Label(f"new_{code}", f"New {code}", f"새 {code}", f"Nouveau {code}") for code in codes)
    title = Label("nails", "Nail", "손톱", "Ongle")
    monkeypatch.setitem(
        PIPELINES, "nails", Pipeline("nails", title, "photo", (Head("classify", "nails", labels),))
    )
    folder = tmp_path / "nails"
    folder.mkdir()
    lines = ["file,label,group"]
    for number in range(80):
        code = codes[number % 4]
        (folder / f"{number}.jpg").write_bytes(drawn(code, number, (48, 40)))
        lines.append(f"{number}.jpg,new_{code},{number // 4}")
    (folder / "samples.csv").write_text("\n".join(lines))
    assert set(codes) <= set(HUES)
    own = config.model_copy(update={"pipeline": "nails", "epochs": 6, "mixup": 0.0})
    card = train(own, folder, tmp_path / "out", tmp_path / "run")
    assert card.labels == tuple(f"new_{code}" for code in codes)
    assert card.metrics.accuracy.value > 0.4  # type: ignore[union-attr]  # 0.25 by chance
    load_network(card, PIPELINES["nails"].heads[0], tmp_path / "out")
