"""Reads HAM10000 with its lesion-grouped split, and holds pictures ready for training."""

import csv
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from shared.cards import Preprocess
from shared.catalog import Label
from shared.images import Limits, decode
from shared.preprocess import to_tensor

SPLITS = ("train", "val", "test")


class BadData(Exception):
    """The data cannot be trained on; the message lists everything that is wrong with it."""


@dataclass(frozen=True)
class Copy:
    """One file of a picture, inside a zip."""

    archive: Path
    member: str

    def read(self, archives: dict[Path, zipfile.ZipFile]) -> bytes:
        if self.archive not in archives:  # opening reads the whole directory, so once for all its pictures
            archives[self.archive] = zipfile.ZipFile(self.archive)
        return archives[self.archive].read(self.member)


@dataclass(frozen=True)
class Sample:
    """One picture with its truth; `copies` runs from the sharpest to the coarsest."""

    id: str
    group: str  # the lesion: no group may stand in two splits
    label: int  # position in the catalog's labels
    split: str
    copies: tuple[Copy, ...]


def read_ham10000(folder: Path, labels: tuple[Label, ...]) -> list[Sample]:
    """Every row of `*metadata_split.csv`, with its files found in the zips beside it.

    Raises: BadData listing each missing file, unknown label and group that stands in two splits
    """
    tables = sorted(folder.glob("*metadata_split.csv"))
    if len(tables) != 1:
        raise BadData(f"{folder} must hold exactly one *metadata_split.csv; it holds {len(tables)}.")
    copies = _find_copies(folder)
    positions = {label.code: index for index, label in enumerate(labels)}
    samples, wrong = [], []
    with tables[0].open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["dx"] not in positions:
                wrong.append(f"{row['image_id']}: label {row['dx']!r} is not in the catalog")
            elif row["image_id"] not in copies:
                wrong.append(f"{row['image_id']}: no picture of that name")
            elif row["split"] not in SPLITS:
                wrong.append(f"{row['image_id']}: split {row['split']!r} is not one of {SPLITS}")
            else:
                samples.append(
                    Sample(
                        row["image_id"],
                        row["lesion_id"],
                        positions[row["dx"]],
                        row["split"],
                        tuple(copies[row["image_id"]]),
                    )
                )
    wrong += leaks(samples)
    if wrong:
        raise BadData("\n".join(wrong))
    return samples


def leaks(samples: Iterable[Sample]) -> list[str]:
    """Groups that stand in more than one split, in words; empty when the split is clean."""
    splits = defaultdict(set)
    for sample in samples:
        splits[sample.group].add(sample.split)
    return [f"{group}: stands in {sorted(names)}" for group, names in splits.items() if len(names) > 1]


def _find_copies(folder: Path) -> dict[str, list[Copy]]:
    """Image id to its files. The square copies are resized from 600x450 originals: sharper, so first."""
    archives = sorted(folder.glob("*images_200x150.zip")) + sorted(folder.glob("*224crop*.zip"))
    copies: dict[str, list[Copy]] = defaultdict(list)
    for path in archives:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if member.lower().endswith(".jpg"):
                    copies[Path(member).stem].insert(0, Copy(path, member))
    return copies


def load_pictures(copies: list[Copy], size_px: int, title: str) -> Tensor:
    """Decode and preprocess as the worker does; held in memory as bytes.

    Shapes: -> (N, 3, size_px, size_px) uint8, channels last in memory
    """
    preprocess = Preprocess(size_px=size_px, mean=(0, 0, 0), std=(1, 1, 1))
    pictures = torch.empty((len(copies), size_px, size_px, 3), dtype=torch.uint8)
    archives: dict[Path, zipfile.ZipFile] = {}
    for index, copy in enumerate(track(copies, description=title, transient=True)):
        pixels = decode(copy.read(archives), Limits(), at_least_px=size_px)
        pictures[index] = to_tensor(pixels, preprocess).permute(1, 2, 0)
    for archive in archives.values():
        archive.close()
    return pictures.permute(0, 3, 1, 2)


def labels_of(samples: list[Sample]) -> np.ndarray:
    return np.array([sample.label for sample in samples])
