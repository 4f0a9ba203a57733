"""Teaching a network to doubt, from drawn data to the warnings of a job."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from shared.cards import load_card
from shared.folder_storage import FolderStorage
from shared.settings import Settings
from shared.tables import JobRow
from tests.tiny import tiny_model
from tests.training.conftest import drawn
from tests.workers.test_vision import never
from training import doubt
from training.doubt import area, fit, halves
from training.foreign import Foreign, foreign_pictures, in_folder
from workers.serving import Models
from workers.vision import VisionStage


def test_there_are_some_four_hundred_foreign_pictures_without_any_folder() -> None:
    found = foreign_pictures([])
    kinds = Counter(one.kind for one in found)
    assert kinds.keys() == {"text", "noise", "drawing", "photograph"}
    assert len(found) >= 400
    assert all(one.pixels.dtype == np.uint8 and one.pixels.shape[2] == 3 for one in found)
    again = foreign_pictures([])
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(found, again, strict=True))


def test_a_folder_gives_the_pictures_that_can_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "xray" / "images"
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_bytes(drawn("nv", 0, (40, 30)))
    (folder / "notes.txt").write_text("not a picture")
    (one,) = in_folder(folder)
    assert (one.kind, one.source, one.pixels.shape) == ("xray/images", "a.jpg", (30, 40, 3))


def test_no_source_stands_in_both_halves() -> None:
    blank = np.zeros((8, 8, 3), np.uint8)
    foreign = [Foreign(kind, source, blank) for kind in "ab" for source in "wxyz" for _ in range(3)]
    tuning = halves(foreign)
    assert tuning.sum() == len(foreign) / 2
    sides = {(one.kind, one.source): set() for one in foreign}
    for one, tunes in zip(foreign, tuning, strict=True):
        sides[one.kind, one.source].add(bool(tunes))
    assert all(len(side) == 1 for side in sides.values())


def test_what_lies_outside_the_usual_is_further_away() -> None:
    random = torch.Generator().manual_seed(0)
    train, val = (torch.randn((400, 20), generator=random) for _ in range(2))
    familiar = fit(train, val, 5)
    assert float((familiar(val) > 1).float().mean()) == pytest.approx(0.03, abs=0.005)
    assert area(familiar(val), familiar(val + 3)) > 0.99


def test_a_taught_network_warns_of_a_foreign_picture_and_seldom_of_its_own(
    tree: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("training.foreign.GENERATED", 10)
    monkeypatch.setattr("training.doubt.RESAMPLED", 20)
    monkeypatch.setattr("training.doubt.AXES", (2, 4))
    tiny_model(tmp_path / "models")
    folder = tmp_path / "models/skin"
    data = tree()
    copies = tmp_path / "copies"
    copies.mkdir()
    (copies / "ISIC_nv_0_0.jpg").write_bytes(drawn("nv", 0, (300, 200)))
    doubt.main(["--pipeline", "skin", "--data", str(data), "--model", str(folder), "--copies", str(copies)])
    said = capsys.readouterr().out
    assert "AUROC" in said
    assert "1 pictures in two sizes" in said
    card = load_card(folder)
    assert card.agreement
    assert card.doubt
    assert card.doubt.auroc.value > 0.9
    assert card.doubt.least_side_px == 150
    assert card.doubt.flagged["val"]["out_of_distribution"] <= 0.05

    settings = Settings(models_dir=str(tmp_path / "models"), device="cpu", dtype="float32")
    storage, models = FolderStorage(tmp_path / "blobs"), Models(settings)
    stage = VisionStage(models, storage, settings)

    def warned(picture: bytes) -> set[str]:
        storage.put("a/image", picture)
        job = JobRow(id="a", pipeline="skin", lane="interactive", lang="en", lost=0)
        values = stage.begin(job, never)().values
        assert sum(one["probability"] for one in values["findings"]) == pytest.approx(1)
        return {one["code"] for one in values.get("warnings", ())}

    assert "low_quality" in warned(drawn("nv", 1, (60, 40)))
    own = [warned(drawn(code, n, (200, 150))) for n, code in enumerate(("nv", "mel", "df", "bcc"))]
    assert sum("out_of_distribution" in codes for codes in own) <= 1
    models.close()
