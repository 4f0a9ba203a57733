"""AI-Hub 216: scalp pictures with six grades each, in folders named after condition and grade."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.catalog import Pipeline
from training.importers.files import PICTURES, by_stem, copies_below
from training.samples import UNKNOWN, Archives, BadData, Copy, Sample
from training.splitting import split_by_group

SEED = 216


@dataclass(frozen=True)
class Graded:
    """One label file, read."""

    stem: str
    grades: tuple[int, ...]


def read_scalp(folder: Path, pipeline: Pipeline) -> list[Sample]:
    """Every picture once, with the grades of its label file.

    A picture stands in the folder of each of its conditions, so files are told apart by name alone, and the
    folders' names are not needed. 171 of 190 persons stand in several of the published splits: the first part of
    the name is the person, and persons are dealt anew.

    Raises: BadData listing each label without picture, unreadable label, and pictures with two different labels
    """
    head, wrong = pipeline.heads[0], list[str]()
    pictures = by_stem(copies_below(folder, PICTURES))
    found: dict[str, tuple[int, ...]] = {}
    with Archives() as archives:
        for copy in copies_below(folder, (".json",)):
            one = _read(copy, archives, len(head.labels), len(head.grades), wrong)
            if one is None:
                continue
            if one.stem not in pictures:
                wrong.append(f"{copy}: there is no picture {one.stem}")
            elif found.setdefault(one.stem, one.grades) != one.grades:
                wrong.append(f"{copy}: another label file grades {one.stem} differently")
    if wrong:
        raise BadData(wrong)
    if not found:
        raise BadData(f"{folder} holds no label files (*.json).")
    samples = [
        Sample(stem, stem.split("_")[0], "", tuple(pictures[stem][:1]), grades=grades)
        for stem, grades in found.items()
    ]
    return split_by_group(samples, SEED)


def _read(copy: Copy, archives: Archives, conditions: int, grades: int, wrong: list[str]) -> Graded | None:
    try:
        told: dict[str, Any] = json.loads(copy.read(archives))
        stem = Path(str(told["image_file_name"])).stem
        values = tuple(_grade(told.get(f"value_{n}"), grades) for n in range(1, conditions + 1))
    except (OSError, ValueError, KeyError, TypeError) as error:
        wrong.append(f"{copy}: it is no label file: {error!r}")
        return None
    return Graded(stem, values)


def _grade(value: Any, grades: int) -> int:
    """Raises: ValueError if it is a grade that the catalog has not"""
    if value in (None, ""):
        return UNKNOWN
    grade = int(value)
    if not 0 <= grade < grades:
        raise ValueError(f"there is no grade {value!r}")
    return grade
