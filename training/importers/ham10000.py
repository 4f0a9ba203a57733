"""HAM10000 in every form in which it is passed on."""

import csv
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

from shared.catalog import Label, Pipeline
from training.importers.files import PICTURES, by_stem, copies_below, parts_of
from training.samples import SPLITS, BadData, Copy, PictureMask, Sample, Told
from training.splitting import split_by_group

SEED = 20180814  # of the split, where the table has none: the day on which the set was published
MASK = "_segmentation"


def read_ham10000(folder: Path, pipeline: Pipeline) -> list[Sample]:
    """Every row of the table, with its files wherever they lie: folders, parts, one folder, zips.

    Without a table, the folders are the labels and every picture is a lesion of its own. Without a column
    `split`, lesions are dealt 70/15/15.

    Raises: BadData listing each missing file, unknown label and unknown split
    """
    positions = _positions(pipeline.heads[0].labels)
    files = _pictures(folder)
    table = _table(folder)
    rows = list(_rows(table)) if table else _rows_of_folders(files, positions)
    wrong: list[str] = []
    samples = [one for row in rows if (one := _sample(row, files, positions, wrong))]
    if wrong:
        raise BadData(wrong)
    return _dealt(samples)


def read_lesion_masks(folder: Path, pipeline: Pipeline) -> list[Sample]:
    """The same rows with their masks; only the whole pictures, since square copies are cut off at the sides.

    Masks are `<id>_segmentation.png`, or `<id>.png` in a folder or zip whose name says that it holds masks.

    Raises: BadData listing each missing picture or mask and each unknown split
    """
    table = _table(folder)
    if table is None:
        raise BadData(f"{folder} holds no *metadata*.csv.")
    pictures = {name: [c for c in copies if not _is_square(c)] for name, copies in _pictures(folder).items()}
    masks = {
        name.removesuffix(MASK): copies
        for name, copies in by_stem(c for c in copies_below(folder, (".png",)) if _is_mask(c)).items()
    }
    samples, wrong = [], []
    for row in _rows(table):
        name, found = row["image_id"], (pictures.get(row["image_id"]), masks.get(row["image_id"]))
        wrong += [
            f"{name}: no {kind} of that name"
            for kind, one in zip(("picture", "mask"), found, strict=True)
            if not one
        ]
        wrong += _wrong_split(row)
        if found[0] and found[1]:
            mask = PictureMask(found[1][0], binary=True)
            split = row.get("split") or "train"
            samples.append(Sample(name, row["lesion_id"], split, (found[0][0],), mask=mask))
    if wrong:
        raise BadData(wrong)
    return samples if "split" in row else split_by_group(samples, SEED)


def _positions(labels: Sequence[Label]) -> dict[str, int]:
    """Codes, and the older names that data sets still use, to positions."""
    return {name: n for n, label in enumerate(labels) for name in (label.code, label.ko, *label.aliases)}


def _table(folder: Path) -> Path | None:
    """The one table; one with a split goes before one without.

    Raises: BadData if there are several
    """
    for pattern in ("*metadata_split.csv", "*metadata*.csv"):
        tables = sorted(path for path in folder.glob("*.csv") if fnmatch(path.name.lower(), pattern))
        if len(tables) > 1:
            raise BadData(f"{folder} must hold one {pattern}; it holds {len(tables)}.")
        if tables:
            return tables[0]
    return None


def _rows(table: Path) -> Iterator[dict[str, str]]:
    with table.open(newline="", encoding="utf-8-sig") as file:
        yield from csv.DictReader(file)


def _rows_of_folders(files: dict[str, list[Copy]], positions: dict[str, int]) -> list[dict[str, str]]:
    """One row per picture whose folder is named after a label."""
    return [
        {"image_id": name, "lesion_id": name, "dx": parts_of(copies[0])[-2]}
        for name, copies in files.items()
        if parts_of(copies[0])[-2] in positions
    ]


def _sample(
    row: dict[str, str], files: dict[str, list[Copy]], positions: dict[str, int], wrong: list[str]
) -> Sample | None:
    name = row["image_id"]
    faults = _wrong_split(row)
    if row["dx"] not in positions:
        faults.append(f"{name}: label {row['dx']!r} is not in the catalog")
    if name not in files:
        faults.append(f"{name}: no picture of that name")
    wrong += faults
    if faults:
        return None
    copies, split = tuple(files[name]), row.get("split", "")
    told = Told(row.get("age") or "", row.get("sex") or "", row.get("localization") or "")
    return Sample(name, row["lesion_id"], split, copies, label=positions[row["dx"]], told=told)


def _wrong_split(row: dict[str, str]) -> list[str]:
    split = row.get("split")
    if split is None or split in SPLITS:
        return []
    return [f"{row['image_id']}: split {split!r} is not one of {SPLITS}"]


def _dealt(samples: list[Sample]) -> list[Sample]:
    if not samples:
        raise BadData("There is neither a *metadata*.csv nor a folder named after a label.")
    return samples if all(sample.split for sample in samples) else split_by_group(samples, SEED)


def _pictures(folder: Path) -> dict[str, list[Copy]]:
    """Image id to its files. Square copies are resized from 600x450 originals: sharper than the others, so first.

    Archives of pairs hold some pictures a second time, to compare sizes; they are not for training.
    """
    copies = [c for c in copies_below(folder, PICTURES) if not _is_mask(c) and "_pairs_" not in c.path.name]
    return by_stem(sorted(copies, key=lambda copy: not _is_square(copy)))


def _is_square(copy: Copy) -> bool:
    return "224crop" in copy.path.name


def _is_mask(copy: Copy) -> bool:
    name, *folders = parts_of(copy)[::-1]
    near = (copy.path.name, *folders[:1]) if copy.member else folders[:1]
    return (
        MASK in name
        or "expert" in name
        or any("mask" in x.lower() or "segmentation" in x.lower() for x in near)
    )
