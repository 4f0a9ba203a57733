"""What a data set is to training: samples with their files, truth, group and split; and what is wrong with one."""

import csv
import io
import json
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from shared.catalog import Head
from shared.images import Limits, inspect

SPLITS = ("train", "val", "test")
Dealt = Literal["table", "fifth_by_picture", "fifth_by_group"]  # by whom or how samples get their split
UNKNOWN = -1  # a grade that nobody gave; left out of loss and figures
SHOWN = 50  # lines of faults before the rest is only counted

Mask = NDArray[np.uint8]


class BadData(Exception):
    """The data cannot be trained on; the message lists everything that is wrong with it."""

    def __init__(self, faults: str | Sequence[str]) -> None:
        self.faults = [faults] if isinstance(faults, str) else list(faults)
        lines = self.faults
        if len(lines) > SHOWN:
            lines = [*lines[:SHOWN], f"... and {len(lines) - SHOWN} more faults"]
        super().__init__("\n".join(lines))


class Archives:
    """Opened zips: opening reads the whole directory, so once for all files of one."""

    def __init__(self) -> None:
        self._opened: dict[Path, zipfile.ZipFile] = {}

    def read(self, archive: Path, member: str) -> bytes:
        if archive not in self._opened:
            self._opened[archive] = zipfile.ZipFile(archive)
        return self._opened[archive].read(member)

    def __enter__(self) -> "Archives":
        return self

    def __exit__(self, *_: object) -> None:
        for archive in self._opened.values():
            archive.close()


@dataclass(frozen=True)
class Copy:
    """One file: a path, or a member of a zip."""

    path: Path
    member: str | None = None

    def read(self, archives: Archives) -> bytes:
        return self.path.read_bytes() if self.member is None else archives.read(self.path, self.member)

    def __str__(self) -> str:
        return f"{self.path.name}/{self.member}" if self.member else self.path.name


class MaskSource(Protocol):
    """Where a picture's mask comes from."""

    def read(self, archives: Archives) -> Mask:
        """Shapes: -> (H, W) uint8, each value a position in the head's labels

        Raises: OSError, ValueError, KeyError if it cannot be read
        """
        ...


@dataclass(frozen=True)
class PictureMask:
    """A grey or palette picture. `binary`: whatever is not 0 is label 1, as in masks of 0 and 255."""

    copy: Copy
    binary: bool = False

    def read(self, archives: Archives) -> Mask:
        with Image.open(io.BytesIO(self.copy.read(archives))) as image:
            values = np.asarray(image if image.mode == "P" else image.convert("L"))
        return (values > 0).astype(np.uint8) if self.binary else values


@dataclass(frozen=True)
class PolygonMask:
    """Filled polygons in a JSON file; later ones cover earlier ones, and a picture without any has none."""

    copy: Copy
    picture: Copy  # whose size the mask has

    def read(self, archives: Archives) -> Mask:
        seen = inspect(self.picture.read(archives), Limits())
        image = Image.new("L", (seen.width, seen.height), 0)
        pen = ImageDraw.Draw(image)
        for shape in json.loads(self.copy.read(archives))["shapes"]:
            corners = [(float(x), float(y)) for x, y in shape["points"]]
            label = int(shape["class"])
            if not 0 <= label <= 255 or len(corners) < 3:
                raise ValueError(f"a polygon of {len(corners)} points and class {label}")
            pen.polygon(corners, fill=label, outline=label)
        return np.asarray(image)


@dataclass(frozen=True)
class Told:
    """What a table tells of a picture's patient, as it stands there; checked where it is used."""

    age: str = ""
    sex: str = ""
    site: str = ""


@dataclass(frozen=True)
class Sample:
    """One picture with its truth; `copies` runs from the sharpest to the coarsest."""

    id: str
    group: str  # the lesion or patient: no group may stand in two splits
    split: str
    copies: tuple[Copy, ...]
    label: int = UNKNOWN  # of a classify head: position in the catalog's labels
    grades: tuple[int, ...] = ()  # of a grade head: one per condition, or UNKNOWN
    mask: MaskSource | None = None  # of a segment head
    told: Told = Told()


def leaks(samples: Iterable[Sample]) -> list[str]:
    """Groups that stand in more than one split, in words; empty when the split is clean."""
    splits = defaultdict(set)
    for sample in samples:
        splits[sample.group].add(sample.split)
    return [f"{group}: stands in {sorted(names)}" for group, names in splits.items() if len(names) > 1]


def repeats(samples: Iterable[Sample]) -> list[str]:
    """Ids that stand in the table more than once, in words."""
    counted = Counter(sample.id for sample in samples)
    return [f"{name}: stands {count} times in the table" for name, count in counted.items() if count > 1]


def gaps(samples: Sequence[Sample], head: Head, splits: Sequence[str] = SPLITS) -> list[str]:
    """Splits without a picture, and labels or grades that pictures are missing of, in words."""
    train = [sample for sample in samples if sample.split == "train"]
    faults = [f"no picture is in {split}" for split in splits if all(s.split != split for s in samples)]
    if head.kind == "classify":
        faults += [f"no training picture is {code}" for code in _unseen(train, head)]
    if head.kind == "classify" and "val" in splits:
        val = [sample for sample in samples if sample.split == "val"]
        faults += [f"no picture of val is {code}: it has no threshold" for code in _unseen(val, head)]
    if head.kind == "grade":
        for position, condition in enumerate(head.labels):
            known = {sample.grades[position] for sample in train} - {UNKNOWN}
            if len(known) < 2:
                faults.append(f"{condition.code}: the training pictures have fewer than two of its grades")
    return faults


def _unseen(samples: Sequence[Sample], head: Head) -> list[str]:
    seen = {sample.label for sample in samples}
    return [label.code for position, label in enumerate(head.labels) if position not in seen]


def faults_of(samples: Sequence[Sample], head: Head, dealt: Dealt = "table") -> list[str]:
    """Everything that a table of samples shows to be wrong, before any file is read.

    A fifth that is held out both chooses and reports, and one dealt by picture has groups on both sides, which only a
    comparison with a published table may.
    """
    if dealt == "table":
        return repeats(samples) + leaks(samples) + gaps(samples, head)
    once = [sample for sample in samples if sample.split != "test"]  # `test` is `val` again
    leaked = [] if dealt == "fifth_by_picture" else leaks(once)
    return repeats(once) + leaked + gaps(samples, head)


def write_split(samples: Iterable[Sample], path: Path) -> None:
    """Write which picture of which group stands where, so that a run can be judged later."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "group", "split"])
        writer.writerows([sample.id, sample.group, sample.split] for sample in samples)
