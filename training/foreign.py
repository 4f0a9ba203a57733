"""Pictures that a pipeline was not made for: drawn, generated, photographed, or found in folders."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from shared.errors import RequestError
from shared.images import Limits, decode

Pixels = NDArray[np.uint8]

SIDE_PX = 256
GENERATED = 100  # of each kind
CROPS = 6  # of each photograph
PHOTOGRAPHS = {
    "skimage.data": (
        "astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "chessboard_RGB.png", "coffee.png",
        "coins.png", "color.png", "grass.png", "gravel.png", "horse.png", "hubble_deep_field.jpg", "ihc.png",
        "moon.png", "motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg", "text.png",
    ),
    "sklearn.datasets.images": ("china.jpg", "flower.jpg"),
}  # fmt: skip
WORDS = [
    "Name",
    "Date",
    "Report",
    "처방전",
    "환자",
    "검사",
    "Résultat",
    "Patient",
    "Left",
    "5",
    "mm",
    "Rx",
    "No.",
    "2026",
    "dose",
    "clinic",
    "병원",
    "résumé",
]


@dataclass(frozen=True)
class Foreign:
    """One picture; those of one `source` belong together, and `kind` is what the report counts by."""

    kind: str
    source: str
    pixels: Pixels


def foreign_pictures(folders: list[Path], seed: int = 0) -> list[Foreign]:
    """Generated ones, crops of the photographs that come with our packages, and every picture in the folders."""
    random = np.random.default_rng(seed)
    found = [
        Foreign(kind, f"{kind}-{number}", make(random))
        for kind, make in (("text", text), ("noise", noise), ("drawing", drawing))
        for number in range(GENERATED)
    ]
    found += photographs(random)
    for folder in folders:
        found += in_folder(folder)
    return found


def text(random: np.random.Generator) -> Pixels:
    """A page of words, as in a screenshot or a scanned letter."""
    ground = int(random.integers(200, 256))
    page = Image.new("RGB", (SIDE_PX, SIDE_PX), (ground, ground, int(random.integers(180, 256))))
    pen = ImageDraw.Draw(page)
    size = int(random.integers(9, 40))
    font = ImageFont.load_default(size)
    ink = tuple(int(value) for value in random.integers(0, 120, 3))
    for top in range(int(random.integers(0, 20)), SIDE_PX, round(size * 1.4)):
        latin = [word for word in random.choice(WORDS, 8) if word.isascii()]
        pen.text((int(random.integers(0, 30)), top), " ".join(latin), fill=ink, font=font)
    return np.asarray(page)


def noise(random: np.random.Generator) -> Pixels:
    """Random colours, from fine grain to large clouds, grey or coloured."""
    cells = int(random.choice([2, 4, 8, 16, 32, 64, 128, SIDE_PX]))
    coarse = random.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
    if random.random() < 0.4:
        coarse[:] = coarse[..., :1]
    way = Image.Resampling(int(random.choice([Image.Resampling.NEAREST, Image.Resampling.BICUBIC])))
    return np.asarray(Image.fromarray(coarse).resize((SIDE_PX, SIDE_PX), way))


def drawing(random: np.random.Generator) -> Pixels:
    """Shapes in strong colours on one ground."""
    page = Image.new("RGB", (SIDE_PX, SIDE_PX), tuple(int(value) for value in random.integers(0, 256, 3)))
    pen = ImageDraw.Draw(page)
    for _ in range(int(random.integers(1, 15))):
        box = np.sort(random.integers(0, SIDE_PX, (2, 2)), axis=0).ravel().tolist()
        colour = tuple(int(value) for value in random.integers(0, 256, 3))
        kind = int(random.integers(3))
        if kind == 2:
            pen.line(box, fill=colour, width=int(random.integers(1, 9)))
        else:
            (pen.rectangle, pen.ellipse)[kind](box, fill=colour)
    return np.asarray(page)


def photographs(random: np.random.Generator) -> list[Foreign]:
    found = []
    for package, names in PHOTOGRAPHS.items():
        for name in names:
            pixels = decode(files(package).joinpath(name).read_bytes(), Limits())
            found += [Foreign("photograph", name, crop) for crop in _crops(pixels, random)]
    return found


def _crops(pixels: Pixels, random: np.random.Generator) -> Iterator[Pixels]:
    height, width = pixels.shape[:2]
    for share in np.linspace(1, 0.4, CROPS):
        side = int(min(height, width) * share)
        top, left = int(random.integers(height - side + 1)), int(random.integers(width - side + 1))
        yield pixels[top : top + side, left : left + side]


def in_folder(folder: Path) -> list[Foreign]:
    """Every file under the folder that MedQ would accept as a picture, named after the folder."""
    found = []
    for path in sorted(folder.rglob("*")):
        try:
            pixels = decode(path.read_bytes(), Limits()) if path.is_file() else None
        except RequestError:
            continue
        if pixels is not None:
            found.append(Foreign("/".join(folder.resolve().parts[-2:]), path.name, pixels))
    return found
