"""`training.predict`: rows for pictures, masks, features and figures, without a server."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from shared.catalog import PIPELINES
from shared.heads import probabilities
from shared.images import Limits, decode
from shared.networks import load_network
from shared.preprocess import normalise, to_tensor
from tests.tiny import tiny_model, with_clinical
from tests.training.conftest import drawn
from training import predict


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.jpg").write_bytes(drawn("nv" if number % 2 else "mel", number, (50, 40)))
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_picture_gets_what_the_worker_would_find(pictures: Path, tmp_path: Path) -> None:
    card = tiny_model(tmp_path / "models")
    model, out = tmp_path / "models/skin", tmp_path / "out.csv"
    features = tmp_path / "features.npz"
    predict.main([str(pictures), "--model", str(model), "-o", str(out), "--embeddings", str(features)])
    rows = rows_of(out)
    assert [Path(row["file"]).name for row in rows] == [*(f"{n}.jpg" for n in range(6)), "broken.png"]
    assert rows[-1]["problem"]
    assert not rows[-1]["p_mel"]
    network = load_network(card, PIPELINES["skin"].heads[0], model)
    pixels = decode((pictures / "3.jpg").read_bytes(), Limits(), at_least_px=32)
    with torch.inference_mode():
        batch = normalise(to_tensor(pixels, card.preprocess)[None], card.preprocess, torch.float32)
        expected = probabilities(network(batch), card)[0].tolist()
    assert [float(rows[3][f"p_{code}"]) for code in card.labels] == pytest.approx(expected, abs=1e-5)
    assert rows[3]["top"] == card.labels[int(np.argmax(expected))]
    stored = np.load(features)
    assert stored["features"].shape[0] == 6


def test_a_mirrored_picture_gives_the_same_when_both_are_averaged(pictures: Path, tmp_path: Path) -> None:
    tiny_model(tmp_path / "models")
    other = tmp_path / "mirrored"
    other.mkdir()
    with Image.open(pictures / "1.jpg") as image:
        image.save(other / "a.png")
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(other / "b.png")
    out = tmp_path / "out.csv"
    predict.main([str(other), "--model", str(tmp_path / "models/skin"), "-o", str(out), "--tta"])
    first, second = rows_of(out)
    assert float(first["p_mel"]) == pytest.approx(float(second["p_mel"]), abs=1e-4)


def test_masks_have_the_pictures_own_size(pictures: Path, tmp_path: Path) -> None:
    tiny_model(tmp_path / "models", "chest-xray")
    out, masks = tmp_path / "out.csv", tmp_path / "masks"
    model = ["--pipeline", "chest-xray", "--model", str(tmp_path / "models/chest-xray")]
    predict.main([str(pictures / "2.jpg"), *model, "-o", str(out), "--masks", str(masks)])
    with Image.open(masks / "2.png") as mask:
        assert mask.size == (50, 40)
        values = np.asarray(mask)
    row = rows_of(out)[0]
    assert float(row["area_left_lung"]) == pytest.approx((values == 1).mean(), abs=1e-5)


def test_grades_have_a_column_each(pictures: Path, tmp_path: Path) -> None:
    tiny_model(tmp_path / "models", "scalp")
    out = tmp_path / "out.csv"
    predict.main(
        [
            str(pictures / "2.jpg"),
            "--pipeline",
            "scalp",
            "--model",
            str(tmp_path / "models/scalp"),
            "-o",
            str(out),
        ]
    )
    row = rows_of(out)[0]
    assert sum(float(row[f"p_dandruff_{grade}"]) for grade in range(4)) == pytest.approx(1, abs=1e-5)


def test_labels_give_figures_and_wrong_ones_are_refused(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_model(tmp_path / "models")
    table = pictures / "list.csv"
    lines = [f"{number}.jpg,{'nv' if number % 2 else 'mel'}" for number in range(6)]
    table.write_text("\n".join(["file,label", *lines]))
    arguments = [str(table), "--model", str(tmp_path / "models/skin"), "-o", str(tmp_path / "out.csv")]
    predict.main(arguments)
    assert "balanced_accuracy" in capsys.readouterr().err
    table.write_text("file,label\n1.jpg,wart")
    with pytest.raises(SystemExit, match="no label wart"):
        predict.main(arguments)


def test_a_folder_without_pictures_says_so(tmp_path: Path) -> None:
    tiny_model(tmp_path / "models")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match="holds no pictures"):
        predict.main([str(tmp_path / "empty"), "--model", str(tmp_path / "models/skin")])


def test_a_tables_age_sex_and_site_are_used_and_wrong_ones_refused(pictures: Path, tmp_path: Path) -> None:
    models, table = tmp_path / "models", pictures / "list.csv"
    card = tiny_model(models)
    arguments = [str(table), "--model", str(models / "skin"), "-o", str(tmp_path / "out.csv")]
    table.write_text("file,age,sex,site\n1.jpg,50,male,back\n2.jpg,,unknown,\n")
    predict.main(arguments)
    alone = [[float(row[f"p_{code}"]) for code in card.labels] for row in rows_of(tmp_path / "out.csv")]
    clinical = with_clinical(models, card).clinical
    assert clinical
    predict.main(arguments)
    first, second = [
        [float(row[f"p_{code}"]) for code in card.labels] for row in rows_of(tmp_path / "out.csv")
    ]
    said = np.mean(clinical.age, axis=0) + clinical.sex["male"] + clinical.site["back"]
    expected = np.array(alone[0]) * np.exp(said)
    assert first == pytest.approx(expected / expected.sum(), abs=1e-5)
    assert second == alone[1]
    table.write_text("file,age\n1.jpg,old\n")
    with pytest.raises(SystemExit, match="age 'old' is no number"):
        predict.main(arguments)
