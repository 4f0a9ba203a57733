"""The drawn picture: the same each time, said to be drawn, and of a lesion's shape and colours."""

import io

import numpy as np
import pytest
from PIL import Image

from deploy import drawn
from shared import images

DARK = 150  # of 255, mean of the channels: pigment, not skin


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return drawn.draw()


def test_a_seed_gives_the_same_bytes_each_time() -> None:
    assert drawn.jpeg(3) == drawn.jpeg(3)
    assert drawn.jpeg(3) != drawn.jpeg(4)


def test_the_file_says_that_it_is_drawn() -> None:
    with Image.open(io.BytesIO(drawn.jpeg())) as image:
        assert (image.format, image.size) == ("JPEG", (600, 450))
        assert b"no patient" in image.info["comment"]


def test_the_server_accepts_it() -> None:
    info = images.inspect(drawn.jpeg(), images.Limits())
    assert (info.media_type, info.width, info.height) == ("image/jpeg", 600, 450)


def test_a_brown_spot_stands_alone_in_pink_skin(picture: np.ndarray) -> None:
    dark = picture.mean(axis=2) < DARK
    rows, columns = np.nonzero(dark)
    assert 0.05 < dark.mean() < 0.4
    assert abs(np.median(rows) - 225) < 60
    assert abs(np.median(columns) - 300) < 60
    red, green, blue = np.median(picture[~dark], axis=0)
    assert red > green + 20
    assert abs(green - blue) < 25
    red, green, blue = np.median(picture[dark], axis=0)
    assert red > green > blue


def test_light_falls_off_towards_the_corners(picture: np.ndarray) -> None:
    corners = np.concatenate([picture[:20, :20], picture[-20:, -20:]]).mean()
    edges = np.concatenate([picture[:20, 290:310], picture[-20:, 290:310]]).mean()
    assert corners < edges


@pytest.mark.parametrize("seed", range(4))
def test_any_seed_draws_a_spot(seed: int) -> None:
    dark = drawn.draw(seed).mean(axis=2) < DARK
    assert 0.03 < dark.mean() < 0.4
