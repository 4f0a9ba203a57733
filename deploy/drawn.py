"""Draws a picture that resembles a dermoscopic one, so that a demo needs no patient's picture.

python -m deploy.drawn drawn.jpg
"""

import argparse
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

WIDTH_PX, HEIGHT_PX = 600, 450  # as HAM10000's pictures
SEED = 7
NOTE = "Drawn by MedQ's deploy/drawn.py: no photograph, no patient."

Plane = NDArray[np.floating[Any]]  # (HEIGHT_PX, WIDTH_PX)
Picture = NDArray[np.floating[Any]]  # (HEIGHT_PX, WIDTH_PX, 3), 0 to 255

SKIN = np.array([232, 170, 168], np.float32)
TAN = np.array([186, 106, 78], np.float32)
BROWN = np.array([104, 44, 36], np.float32)
NETWORK = np.array([70, 28, 26], np.float32)
HAIR = np.array([66, 40, 40], np.float32)


def jpeg(seed: int = SEED) -> bytes:
    """The drawn picture as JPEG, whose comment says that it is drawn; the same bytes for the same seed."""
    file = io.BytesIO()
    Image.fromarray(draw(seed)).save(file, "JPEG", quality=92, comment=NOTE)
    return file.getvalue()


def draw(seed: int = SEED) -> NDArray[np.uint8]:
    """Shapes: -> (HEIGHT_PX, WIDTH_PX, 3) uint8"""
    random = np.random.default_rng(seed)
    picture = _skin(random)
    picture = _lesion(picture, random)
    picture = _light(picture, random)
    picture = _hairs(picture, random)
    picture = picture + random.normal(0, 2.2, picture.shape)  # the sensor's noise
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _clouds(random: np.random.Generator, cell_px: int) -> Plane:
    """Smooth noise between about -1 and 1, with patches of `cell_px`."""
    rows, columns = HEIGHT_PX // cell_px + 3, WIDTH_PX // cell_px + 3
    coarse = Image.fromarray(random.normal(0, 0.5, (rows, columns)).astype(np.float32))
    clouds: Plane = np.asarray(coarse.resize((WIDTH_PX, HEIGHT_PX), Image.Resampling.BICUBIC))
    return clouds


def _mix(under: Picture, over: NDArray[np.floating[Any]], share: Plane) -> Picture:
    return under * (1 - share[..., None]) + over * share[..., None]


def _skin(random: np.random.Generator) -> Picture:
    """Skin with soft blotches of blood, a grain and the faint furrows between its fields."""
    picture = np.broadcast_to(SKIN, (HEIGHT_PX, WIDTH_PX, 3)).copy()
    picture += _clouds(random, 150)[..., None] * np.array([4, 9, 8], np.float32)
    picture += _clouds(random, 40)[..., None] * np.array([3, 7, 6], np.float32)
    picture += _clouds(random, 5)[..., None] * np.array([3, 6, 6], np.float32)
    furrows = _cell_borders(random, 15, 4.0) * np.clip(_clouds(random, 70) + 0.5, 0, 1)
    picture -= furrows[..., None] * np.array([4, 9, 8], np.float32)
    return picture


def _lesion(picture: Picture, random: np.random.Generator) -> Picture:
    """An irregular spot: tan at the rim, brown within, with a pigment network and a few dark dots."""
    depth = _depth(random)  # 0 at the rim, 1 at the centre, negative outside
    rim = depth + 0.07 * _clouds(random, 14) + 0.05 * _clouds(random, 5)
    inside = 1 / (1 + np.exp(-(rim - 0.04) * 16))
    grain = 0.30 * _clouds(random, 22) + 0.22 * _clouds(random, 8) + 0.12 * _clouds(random, 4)
    dark = np.clip(0.10 + 1.0 * depth + 0.50 * _clouds(random, 70) + grain, 0, 1)
    body = _mix(np.broadcast_to(TAN, picture.shape), BROWN, dark)
    picture = _mix(picture, body, 0.92 * inside)
    fading = np.clip((rim - 0.02) * 6, 0, 1) * np.clip(1.1 - depth, 0, 1)  # clearest towards the rim
    patchy = np.clip(0.60 + 0.8 * _clouds(random, 60), 0.05, 1)
    network = _blur(_cell_borders(random, 9, 4.0), 0.9) * fading * patchy
    picture = _mix(picture, NETWORK, 0.60 * network)
    return _mix(picture, NETWORK, 0.55 * _blur(_dots(random, depth), 0.8))


def _blur(plane: Plane, radius_px: float) -> Plane:
    image = Image.fromarray(np.rint(plane * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius_px)), np.float32) / 255


def _depth(random: np.random.Generator) -> Plane:
    """How far inside the lesion a point lies, in radii: one minus its distance over the rim's there."""
    y, x = np.mgrid[:HEIGHT_PX, :WIDTH_PX].astype(np.float32)
    dx, dy = (x - WIDTH_PX * 0.51) / 1.2, y - HEIGHT_PX * 0.49
    angle, rim = np.arctan2(dy, dx), np.full_like(x, 118.0)
    for waves in range(2, 9):
        strength, phase = random.normal(0, 17 / waves), random.uniform(0, 2 * np.pi)
        rim += strength * np.cos(waves * angle + phase)
    depth: Plane = 1 - np.hypot(dx, dy) / rim + 0.06 * _clouds(random, 30)
    return depth


def _cell_borders(random: np.random.Generator, cell_px: int, width_px: float) -> Plane:
    """A honeycomb of irregular cells: 1 on the borders, 0 within.

    Borders lie where the two nearest of a grid's shaken points are equally near (Worley 1996).
    """
    rows, columns = HEIGHT_PX // cell_px + 8, WIDTH_PX // cell_px + 8
    shaken = random.uniform(0.08, 0.92, (rows, columns, 2)).astype(np.float32)
    y, x = np.mgrid[:HEIGHT_PX, :WIDTH_PX].astype(np.float32) / cell_px + 3
    y, x = y + 0.35 * _clouds(random, cell_px), x + 0.35 * _clouds(random, cell_px)  # bent, not straight
    row, column = y.astype(int), x.astype(int)
    first, second = np.full((2, HEIGHT_PX, WIDTH_PX), np.inf, np.float32)
    for down in range(-2, 3):
        for right in range(-2, 3):
            point = shaken[row + down, column + right]
            away = np.hypot(y - row - down - point[..., 0], x - column - right - point[..., 1])
            second = np.minimum(second, np.maximum(first, away))
            first = np.minimum(first, away)
    gap_px = (second - first) * cell_px
    borders: Plane = np.clip(1 - gap_px / width_px, 0, 1)
    return borders


def _dots(random: np.random.Generator, depth: Plane) -> Plane:
    """Small round clumps of pigment, scattered unevenly within the rim."""
    y, x = np.mgrid[:HEIGHT_PX, :WIDTH_PX].astype(np.float32)
    dots = np.zeros_like(depth)
    places = np.argwhere((depth > 0.08) & (depth < 0.6))
    for top, left in places[random.integers(0, len(places), 14)]:
        radius = random.uniform(1.5, 3.2)
        dots = np.maximum(dots, np.clip(radius + 0.5 - np.hypot(y - top, x - left), 0, 1))
    return dots


def _light(picture: Picture, random: np.random.Generator) -> Picture:
    """The lens's light, which falls off towards the corners and comes a little from one side."""
    y, x = np.mgrid[-1 : 1 : HEIGHT_PX * 1j, -1 : 1 : WIDTH_PX * 1j]
    falloff = 1.03 - 0.06 * (x**2 + y**2) - 0.05 * (x**2 + y**2) ** 2
    side = random.uniform(0, 2 * np.pi)
    slope = 1 + 0.03 * (x * np.cos(side) + y * np.sin(side))
    lit: Picture = picture * (falloff * slope)[..., None]
    return lit


def _hairs(picture: Picture, random: np.random.Generator, count: int = 5) -> Picture:
    """A few thin hairs, bent as quadratic curves, drawn four times as large to be smooth."""
    scale = 4
    sheet = Image.new("L", (WIDTH_PX * scale, HEIGHT_PX * scale))
    pen = ImageDraw.Draw(sheet)
    for _ in range(count):
        start = random.uniform((-30, -30), (WIDTH_PX + 30, HEIGHT_PX + 30))
        heading = random.uniform(0, 2 * np.pi)
        reach = random.uniform(150, 380) * np.array([np.cos(heading), np.sin(heading)])
        bend = start + reach / 2 + random.normal(0, 45, 2)
        t = np.linspace(0, 1, 60)[:, None]
        line = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * (start + reach)
        pen.line([tuple(point) for point in line * scale], fill=255, width=int(random.integers(4, 7)))
    sheet = sheet.resize((WIDTH_PX, HEIGHT_PX), Image.Resampling.LANCZOS).filter(
        ImageFilter.GaussianBlur(0.6)
    )
    share = np.asarray(sheet, np.float32) / 255 * 0.7
    return _mix(picture, HAIR, share)


def main() -> None:
    parser = argparse.ArgumentParser(prog="deploy.drawn", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    options.file.write_bytes(jpeg(options.seed))


if __name__ == "__main__":
    main()
