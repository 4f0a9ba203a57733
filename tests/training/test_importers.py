"""Every layout of the published data sets, as small trees with exactly their names."""

import csv
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shared.catalog import PIPELINES
from tests.training.conftest import drawn
from training.importers import read_data
from training.samples import UNKNOWN, Archives, BadData, Sample, leaks

SKIN, LESION, SCALP, ABDOMINAL = (PIPELINES[n] for n in ("skin", "lesion", "scalp", "abdominal-xray"))
FIELDS = ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"]


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def write(path: Path, data: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def ham_rows() -> list[dict[str, str]]:
    """Two pictures of each of ten lesions a label; one age is missing."""
    return [
        {"lesion_id": f"HAM_{code}{lesion}", "image_id": f"ISIC_{code}{lesion}{view}", "dx": code, "dx_type": "histo",
         "age": "" if lesion == 0 else "45.0", "sex": "male", "localization": "back"}
        for code in ("mel", "nv", "vasc") for lesion in range(10) for view in "ab"
    ]  # fmt: skip


def ham_table(folder: Path, rows: list[dict[str, str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "HAM10000_metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(rows)


def in_parts(folder: Path, rows: list[dict[str, str]]) -> None:
    for number, row in enumerate(rows):
        part = ("HAM10000_images_part_1", "ham10000_images_part_2")[number % 2]
        write(folder / part / f"{row['image_id']}.jpg", drawn(row["dx"], number, (40, 30)))


def in_train_and_test(folder: Path, rows: list[dict[str, str]]) -> None:
    for number, row in enumerate(rows):
        part = ("HAM10000_images_train", "HAM10000_images_test")[number % 5 == 0]
        write(folder / part / f"{row['image_id']}.jpg", drawn(row["dx"], number, (40, 30)))


def in_one_folder(folder: Path, rows: list[dict[str, str]]) -> None:
    for number, row in enumerate(rows):
        write(folder / f"{row['image_id']}.JPG", drawn(row["dx"], number, (40, 30)))


def in_a_zip(folder: Path, rows: list[dict[str, str]]) -> None:
    with zipfile.ZipFile(folder / "HAM10000_images.zip", "w") as archive:
        for number, row in enumerate(rows):
            archive.writestr(f"all/{row['image_id']}.jpg", drawn(row["dx"], number, (40, 30)))


def in_folders_by_label(folder: Path, rows: list[dict[str, str]]) -> None:
    for number, row in enumerate(rows):
        write(folder / row["dx"] / f"{row['image_id']}.jpg", drawn(row["dx"], number, (40, 30)))


LAYOUTS = (in_parts, in_train_and_test, in_one_folder, in_a_zip, in_folders_by_label)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_ham10000_is_read_wherever_its_pictures_lie(layout: Callable[..., None], tmp_path: Path) -> None:
    ham_table(tmp_path, ham_rows())
    layout(tmp_path, ham_rows())
    samples = read_data(tmp_path, SKIN)
    assert {s.id: SKIN.labels[s.label].code for s in samples} == {r["image_id"]: r["dx"] for r in ham_rows()}
    assert {s.id: s.group for s in samples} == {r["image_id"]: r["lesion_id"] for r in ham_rows()}
    assert {sample.split for sample in samples} == {"train", "val", "test"}
    assert not leaks(samples)
    with Archives() as archives:
        assert all(sample.copies[0].read(archives).startswith(b"\xff\xd8") for sample in samples)


def test_without_a_table_folders_are_labels(tmp_path: Path) -> None:
    in_folders_by_label(tmp_path, ham_rows())
    samples = read_data(tmp_path, SKIN)
    assert len(samples) == 60
    assert {SKIN.labels[sample.label].code for sample in samples} == {"mel", "nv", "vasc"}


def test_older_korean_names_are_accepted_and_mel_is_none_of_them(tmp_path: Path) -> None:
    rows = ham_rows()
    for row in rows:
        row["dx"] = {"nv": "반점", "vasc": "섬유종", "mel": "흑색종"}[row["dx"]]
    ham_table(tmp_path, rows)
    in_one_folder(tmp_path, ham_rows())
    found = {s.id[5:-2]: SKIN.labels[s.label].code for s in read_data(tmp_path, SKIN)}
    assert found == {"nv": "nv", "vasc": "df", "mel": "mel"}


def test_masks_of_tschandl_are_found_by_name(tmp_path: Path) -> None:
    ham_table(tmp_path, ham_rows())
    in_parts(tmp_path, ham_rows())
    mask = np.zeros((30, 40))
    mask[5:20, 5:20] = 255
    for row in ham_rows():
        name = f"{row['image_id']}_segmentation.png"
        write(tmp_path / "HAM10000_segmentations_lesion_tschandl" / name, png(mask))
    samples = read_data(tmp_path, LESION)
    assert len(samples) == 60
    assert not leaks(samples)
    with Archives() as archives:
        found = samples[7].mask.read(archives)  # type: ignore[union-attr]
    assert np.array_equal(found, mask > 0)


def scalp_tree(folder: Path, changes: dict[str, Any] | None = None) -> None:
    """Six persons; each picture stands in two conditions' folders, spelled in the ways that are around."""
    places = ("{kind}피지과다_0.양호", "{kind} 미세각질_1.경증", "1.미세각질/0.양호")
    for person in range(6):
        for shot in range(2):
            stem = f"00{person:02}_A2LEBJJDE00060O_160257830377{shot}_3_TH"
            told = {"image_file_name": f"{stem}.jpg"} | {
                f"value_{n}": str((person + n) % 4) for n in range(1, 7)
            }
            for split, place in (("training", places[shot]), ("validation", places[2])):
                pictures, labels = (place.format(kind=kind) for kind in ("[원천]", "[라벨]"))
                write(folder / split / pictures / f"{stem}.jpg", drawn("nv", person, (40, 30)))
                write(
                    folder / split / labels / f"{stem}.json",
                    json.dumps(told | (changes or {}), ensure_ascii=False),
                )


def test_scalp_pictures_come_once_and_persons_stay_together(tmp_path: Path) -> None:
    scalp_tree(tmp_path)
    samples = read_data(tmp_path, SCALP)
    assert len(samples) == 12
    assert {sample.group for sample in samples} == {f"00{person:02}" for person in range(6)}
    assert not leaks(samples)
    first = next(sample for sample in samples if sample.group == "0003")
    assert first.grades == tuple((3 + n) % 4 for n in range(1, 7))


def test_a_grade_that_nobody_gave_is_unknown_and_one_that_is_none_is_refused(tmp_path: Path) -> None:
    scalp_tree(tmp_path / "unknown", {"value_2": ""})
    assert {sample.grades[1] for sample in read_data(tmp_path / "unknown", SCALP)} == {UNKNOWN}
    scalp_tree(tmp_path / "wrong", {"value_2": "4"})
    with pytest.raises(BadData, match="there is no grade '4'"):
        read_data(tmp_path / "wrong", SCALP)


def test_two_label_files_that_disagree_are_named(tmp_path: Path) -> None:
    scalp_tree(tmp_path)
    path = next((tmp_path / "validation").rglob("*.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"value_1": "3", "value_6": "3"}))
    with pytest.raises(BadData, match="another label file grades"):
        read_data(tmp_path, SCALP)


FOLDERS = ("1.Pyloric_Stenosis", "2.Pneumoperitoneum", "3.Air_Fluid_Level", "4.Constipation", "5.Normal")


def abdominal_tree(folder: Path, splits: tuple[str, ...]) -> None:
    for split in splits:
        for number, disease in enumerate(FOLDERS, 1):
            for shot in range(4):
                name = f"{number}_{1625 + shot}"
                square = [[8, 8], [40, 8], [40, 24], [8, 24]]
                shapes = [] if number == 5 else [{"points": square, "class": number}]
                pixels = np.full((64, 64), 30 * number)
                write(folder / split / "Source_Data" / disease / f"{name}.png", png(pixels))
                write(
                    folder / split / "Labeling_Data" / disease / f"{name}.json",
                    json.dumps({"shapes": shapes}),
                )


@pytest.mark.parametrize("splits", [("Training", "Validation"), ("Train", "Validate", "Test")], ids=len)
def test_abdominal_polygons_become_masks_with_the_catalogs_ids(
    splits: tuple[str, ...], tmp_path: Path
) -> None:
    abdominal_tree(tmp_path, splits)
    samples = read_data(tmp_path, ABDOMINAL)
    assert len(samples) == 20 * len(splits)
    assert {sample.split for sample in samples} == {"train", "val", "test"}
    with Archives() as archives:
        for sample in samples:
            mask = sample.mask.read(archives)  # type: ignore[union-attr]
            assert mask.shape == (64, 64)
            number = int(sample.id[0])
            expected = {0} if number == 5 else {0, number}
            assert set(np.unique(mask).tolist()) == expected
            assert (mask > 0).sum() in (0, 33 * 17)  # the outline belongs to the polygon


def test_a_set_of_two_parts_reports_on_what_was_published_for_that(tmp_path: Path) -> None:
    abdominal_tree(tmp_path, ("Training", "Validation"))
    tested = [sample for sample in read_data(tmp_path, ABDOMINAL) if sample.split == "test"]
    assert len(tested) == 20
    assert {sample.copies[0].path.parts[-4] for sample in tested} == {"Validation"}


def test_a_polygon_that_is_none_is_refused(tmp_path: Path) -> None:
    abdominal_tree(tmp_path, ("Train", "Validate", "Test"))
    path = next(tmp_path.rglob("1_1625.json"))
    path.write_text(json.dumps({"shapes": [{"points": [[1, 1]], "class": 1}]}))
    samples = [s for s in read_data(tmp_path, ABDOMINAL) if s.mask.copy.path == path]  # type: ignore[union-attr]
    with Archives() as archives, pytest.raises(ValueError, match="a polygon of 1 points"):
        samples[0].mask.read(archives)  # type: ignore[union-attr]


def test_a_picture_without_label_file_is_named(tmp_path: Path) -> None:
    abdominal_tree(tmp_path, ("Train", "Validate", "Test"))
    next(tmp_path.rglob("Train/Labeling_Data/*/4_1626.json")).unlink()
    with pytest.raises(BadData, match=r"4_1626\.png: there is no label file"):
        read_data(tmp_path, ABDOMINAL)


def own_table(folder: Path, rows: list[dict[str, str]]) -> None:
    for number, row in enumerate(rows):
        if row["file"] and "missing" not in row["file"]:
            write(folder / row["file"], drawn("nv", number, (40, 30)))
    with (folder / "samples.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_a_labs_own_table_serves_any_pipeline(tmp_path: Path) -> None:
    rows = [
        {"file": f"a/{n}.jpg", "label": "mel" if n % 2 else "nv", "group": str(n // 2)} for n in range(40)
    ]
    own_table(tmp_path / "skin", rows)
    samples: list[Sample] = read_data(tmp_path / "skin", SKIN)
    assert len({sample.group for sample in samples}) == 20
    assert not leaks(samples)
    graded = [{"file": f"{n}.jpg", "dandruff": str(n % 4), "hair_loss": ""} for n in range(8)]
    own_table(tmp_path / "scalp", graded)
    assert read_data(tmp_path / "scalp", SCALP)[0].grades[3] == UNKNOWN


def test_every_wrong_row_of_a_table_is_named(tmp_path: Path) -> None:
    rows = [
        {"file": "1.jpg", "label": "wart"},
        {"file": "missing.jpg", "label": "nv"},
        {"file": "", "label": "mel"},
    ]
    own_table(tmp_path, rows)
    with pytest.raises(BadData) as refused:
        read_data(tmp_path, SKIN)
    for part in ("line 2: label 'wart'", "line 3: file 'missing.jpg'", "line 4: file ''"):
        assert part in str(refused.value)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="There is no folder"):
        read_data(tmp_path / "nowhere", SKIN)
