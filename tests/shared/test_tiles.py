"""Tiles: every pixel is decided once, by a tile that sees around it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared.tiles import padded, tiles


@given(st.integers(1, 300), st.integers(1, 300), st.integers(2, 90), st.data())
def test_tiles_decide_every_pixel_once_and_overlap_enough(
    width: int, height: int, size: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    picture = np.arange(height * width * 3, dtype=np.uint32).reshape(height, width, 3).astype(np.uint8)
    whole = padded(picture, size)
    assert np.array_equal(whole[:height, :width], picture)
    seen = np.zeros(whole.shape[:2], int)
    put_together = np.zeros_like(whole)
    for tile in tiles(whole.shape[1], whole.shape[0], size, overlap):
        cut = tile.cut(whole)
        assert cut.shape == (size, size, 3)
        seen[tile.place] += 1
        put_together[tile.place] = cut[tile.own]
        for place, own, length in zip(tile.place, tile.own, whole.shape, strict=False):
            # Within the picture a decided pixel has half the overlap around it.
            assert own.start >= overlap // 2 or place.start == 0
            assert size - own.stop >= overlap // 2 - 1 or place.stop == length
    assert (seen == 1).all()
    assert np.array_equal(put_together, whole)


def test_a_picture_of_one_tile_is_one_tile() -> None:
    assert len(list(tiles(64, 64, 64, 16))) == 1
