"""HAM10000 with its lesion-grouped split."""

import csv
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from shared.catalog import Pipeline
from training.samples import SPLITS, BadData, Copy, PictureMask, Sample


def read_ham10000(folder: Path, pipeline: Pipeline) -> list[Sample]:
    """Every row of `*metadata_split.csv`, with its files found in the zips beside it.

    Raises: BadData listing each missing file, unknown label and unknown split
    """
    labels = pipeline.heads[0].labels
    copies = _find_copies(folder)
    positions = {label.code: index for index, label in enumerate(labels)}
    samples, wrong = [], []
    for row in _rows(folder):
        if row["dx"] not in positions:
            wrong.append(f"{row['image_id']}: label {row['dx']!r} is not in the catalog")
        elif row["image_id"] not in copies:
            wrong.append(f"{row['image_id']}: no picture of that name")
        elif row["split"] not in SPLITS:
            wrong.append(f"{row['image_id']}: split {row['split']!r} is not one of {SPLITS}")
        else:
            files = tuple(copies[row["image_id"]])
            samples.append(
                Sample(row["image_id"], row["lesion_id"], row["split"], files, label=positions[row["dx"]])
            )
    if wrong:
        raise BadData(wrong)
    return samples


def read_lesion_masks(folder: Path, pipeline: Pipeline) -> list[Sample]:
    """The same rows with their masks; only the whole pictures, since the square copies are cut off at the sides.

    Raises: BadData listing each missing picture or mask and each unknown split
    """
    pictures = {
        Path(copy.member or "").stem: copy for copy in _members(folder, "*images_200x150.zip", ".jpg")
    }
    masks = {Path(copy.member or "").stem: copy for copy in _members(folder, "*masks*.zip", ".png")}
    samples, wrong = [], []
    for row in _rows(folder):
        name = row["image_id"]
        wrong += [
            f"{name}: no {kind} of that name"
            for kind, files in (("picture", pictures), ("mask", masks))
            if name not in files
        ]
        if row["split"] not in SPLITS:
            wrong.append(f"{name}: split {row['split']!r} is not one of {SPLITS}")
        if not wrong:
            mask = PictureMask(masks[name], binary=True)
            samples.append(Sample(name, row["lesion_id"], row["split"], (pictures[name],), mask=mask))
    if wrong:
        raise BadData(wrong)
    return samples


def _rows(folder: Path) -> Iterator[dict[str, str]]:
    tables = sorted(folder.glob("*metadata_split.csv"))
    if len(tables) != 1:
        raise BadData(f"{folder} must hold exactly one *metadata_split.csv; it holds {len(tables)}.")
    with tables[0].open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def _members(folder: Path, pattern: str, ending: str) -> Iterator[Copy]:
    for path in sorted(folder.glob(pattern)):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        yield from (Copy(path, name) for name in names if name.lower().endswith(ending))


def _find_copies(folder: Path) -> dict[str, list[Copy]]:
    """Image id to its files. The square copies are resized from 600x450 originals: sharper, so first."""
    copies: dict[str, list[Copy]] = defaultdict(list)
    for pattern in ("*images_200x150.zip", "*224crop*.zip"):
        for copy in _members(folder, pattern, ".jpg"):
            copies[Path(copy.member or "").stem].insert(0, copy)
    return copies
