"""A lab's own data, for any pipeline: pictures and a `samples.csv` that says what they show."""

import csv
from pathlib import Path

from shared.catalog import Head, Pipeline
from training.samples import SPLITS, UNKNOWN, BadData, Copy, PictureMask, Sample, Told
from training.splitting import split_by_group

TABLE = "samples.csv"
SEED = 1


def read_table(folder: Path, pipeline: Pipeline) -> list[Sample]:
    """One row per picture: `file`, and by the kind of head `label`, one column per condition, or `mask`.

    Optional columns: `id` (else the file's name), `group` such as a patient (else each picture is its own), `split`
    (else groups are dealt 70/15/15), and what is known of the patient: `age`, `sex` and `site`. A mask is a picture whose pixels are positions in the catalog's
    labels. Files are named relative to the folder.

    Raises: BadData listing every row that cannot be used
    """
    head = pipeline.heads[0]
    with (folder / TABLE).open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    wrong: list[str] = []
    samples = [_sample(row, folder, head, f"{TABLE} line {n}", wrong) for n, row in enumerate(rows, 2)]
    if wrong or not samples:
        raise BadData(wrong or f"{TABLE} has no rows.")
    whole = [sample for sample in samples if sample]
    return whole if "split" in rows[0] else split_by_group(whole, SEED)


def _sample(row: dict[str, str], folder: Path, head: Head, place: str, wrong: list[str]) -> Sample | None:
    faults: list[str] = []
    picture = _file(row, "file", folder, faults)
    split = row.get("split", "train")
    if split not in SPLITS:
        faults.append(f"split {split!r} is not one of {SPLITS}")
    label, grades, mask = UNKNOWN, tuple[int, ...](), None
    if head.kind == "classify":
        label = _position(row.get("label", ""), head, faults)
    elif head.kind == "grade":
        grades = tuple(_grade(row.get(condition.code, ""), head, faults) for condition in head.labels)
    else:
        mask = PictureMask(Copy(_file(row, "mask", folder, faults)))
    wrong += [f"{place}: {fault}" for fault in faults]
    if faults:
        return None
    name = row.get("id") or row["file"]
    told = Told(row.get("age") or "", row.get("sex") or "", row.get("site") or "")
    return Sample(name, row.get("group") or name, split, (Copy(picture),), label, grades, mask, told)


def _file(row: dict[str, str], column: str, folder: Path, faults: list[str]) -> Path:
    name = row.get(column) or ""
    path = folder / name
    if not name or not path.is_file():
        faults.append(f"{column} {name!r} is no file")
    return path


def _position(code: str, head: Head, faults: list[str]) -> int:
    for position, label in enumerate(head.labels):
        if code in (label.code, *label.aliases):
            return position
    faults.append(f"label {code!r} is not in the catalog")
    return UNKNOWN


def _grade(value: str, head: Head, faults: list[str]) -> int:
    codes = [grade.code for grade in head.grades]
    if value == "":
        return UNKNOWN
    if value not in codes:
        faults.append(f"grade {value!r} is not one of {codes}")
        return UNKNOWN
    return codes.index(value)
