"""The chest set: grey pictures, anatomy masks of the same name, and `index.csv` with each picture's licence."""

import csv
from pathlib import Path

from shared.catalog import Pipeline
from training.samples import BadData, Copy, PictureMask, Sample


def read_chest(folder: Path, pipeline: Pipeline) -> list[Sample]:
    """Every picture whose row states a licence; patients are the groups.

    A picture without a stated licence is left out: weights trained on it could not be given away. All stand in
    `train`, since so few patients are judged by folds.

    Raises: BadData listing each file that is missing
    """
    table = folder / "index.csv"
    if not table.is_file():
        raise BadData(f"There is no {table}.")
    samples, faults = [], []
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["licence_of_image"] == "not stated":
                continue
            picture, mask = (folder / part / f"{row['id']}.png" for part in ("images", "masks_anatomy"))
            faults += [f"{row['id']}: {path} is missing" for path in (picture, mask) if not path.is_file()]
            samples.append(
                Sample(row["id"], row["patientid"], "train", (Copy(picture),), mask=PictureMask(Copy(mask)))
            )
    if faults:
        raise BadData(faults)
    return samples
