"""AI-Hub's abdominal X-rays of children: pictures and polygons in folders named after the disease."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from shared.catalog import Pipeline
from training.importers.files import PICTURES, copies_below, parts_of
from training.samples import BadData, Copy, PolygonMask, Sample
from training.splitting import split_by_group

SPLIT_NAMES = {
    "training": "train",
    "train": "train",
    "validation": "val",
    "validate": "val",
    "val": "val",
    "test": "test",
}
SEED = 512


def read_abdominal(folder: Path, pipeline: Pipeline) -> list[Sample]:
    """Every picture with the polygons of its JSON file, which lies in Labeling_Data as the picture in Source_Data.

    A set of two parts reports on its Validation part, and a part of Training becomes `val`: what chooses must
    not report. The folder's number is not the label (Normal is 5 as a folder, 0 in a mask); the polygons say it.

    Raises: BadData listing each picture without label file, and files outside of the known folders
    """
    labels = {key: copy for copy in copies_below(folder, (".json",)) if (key := _place(copy))}
    samples, wrong = [], []
    for copy in copies_below(folder, PICTURES):
        place = _place(copy)
        if place is None:
            wrong.append(f"{copy}: it lies in no folder such as Training/Source_Data/1.Pyloric_Stenosis")
        elif place not in labels:
            wrong.append(f"{copy}: there is no label file of that name")
        else:
            split, disease, stem = place
            name = f"{disease}/{stem}"
            samples.append(Sample(name, name, split, (copy,), mask=PolygonMask(labels[place], copy)))
    if wrong or not samples:
        raise BadData(wrong or f"{folder} holds no pictures.")
    return list(_three_splits(samples))


def _place(copy: Copy) -> tuple[str, str, str] | None:
    """(split, disease folder, name) of a file in `<split>/<Source_Data|Labeling_Data>/<disease>/<name>`."""
    parts = parts_of(copy)
    if len(parts) < 4 or parts[-3].lower() not in ("source_data", "labeling_data"):
        return None
    split = SPLIT_NAMES.get(parts[-4].lower())
    return (split, parts[-2], Path(parts[-1]).stem) if split else None


def _three_splits(samples: list[Sample]) -> Iterator[Sample]:
    if any(sample.split == "test" for sample in samples):
        yield from samples
        return
    yield from (replace(sample, split="test") for sample in samples if sample.split == "val")
    dealt = split_by_group([sample for sample in samples if sample.split == "train"], SEED)
    yield from (
        replace(sample, split="train" if sample.split == "test" else sample.split) for sample in dealt
    )
