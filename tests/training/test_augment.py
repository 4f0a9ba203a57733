"""Random views: what they may change, and what they may not."""

import pytest
import torch

from training.augment import (
    Views,
    augment,
    augment_both,
    blurred,
    coloured,
    draw_views,
    grids,
    moved,
    moved_mask,
)
from training.config import Augment


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def views(count: int = 6, seed: int = 0, **changes: object) -> Views:
    return draw_views(count, Augment.model_validate(changes), generator(seed))


def pictures(count: int = 6, size: int = 40) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator(7))


def test_views_have_the_size_that_was_asked_and_stay_bytes() -> None:
    seen = augment(pictures(), views(), 32)
    assert seen.shape == (6, 3, 32, 32)
    assert seen.min() >= 0
    assert seen.max() <= 255


def test_the_same_seed_makes_the_same_views_and_another_others() -> None:
    first, again, other = (augment(pictures(), views(seed=seed), 32) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_the_originals_stay_as_they_are() -> None:
    before = pictures()
    kept = before.clone()
    augment(before, views(), 32)
    assert torch.equal(before, kept)


def test_geometry_invents_no_value() -> None:
    flat = torch.full((8, 3, 40, 40), 120.0)
    assert torch.allclose(moved(flat, grids(views(8), 32)), torch.full((8, 3, 32, 32), 120.0), atol=1e-3)


def test_geometry_keeps_lesions_in_view() -> None:
    """A disc in the middle is still there, whatever the turn, zoom and shift."""
    disc = torch.zeros(64, 3, 48, 48)
    disc[:, :, 14:34, 14:34] = 255
    assert (moved(disc, grids(views(64), 32)).amax(dim=(1, 2, 3)) > 250).all()


def test_colour_changes_every_picture_in_its_own_way() -> None:
    same = torch.rand(1, 3, 16, 16).mul(255).expand(8, -1, -1, -1).clone()
    seen = coloured(same, views(8))
    assert len({round(float(view.mean()), 3) for view in seen}) == 8


def test_blur_takes_only_some_and_never_the_mean() -> None:
    batch = torch.rand(64, 3, 16, 16)
    seen = blurred(batch.clone(), views(64))
    changed = [not torch.equal(a, b) for a, b in zip(batch, seen, strict=True)]
    assert 0.1 < sum(changed) / 64 < 0.5
    assert float(seen.mean()) == pytest.approx(float(batch.mean()), abs=0.01)


@pytest.mark.parametrize("elastic", [0.0, 0.1])
def test_a_mask_goes_where_its_picture_goes(elastic: float) -> None:
    """A picture that is its own mask: both views agree but for the pixels that an edge runs through."""
    blocks = torch.randint(0, 2, (16, 1, 6, 6), generator=generator(3)).repeat_interleave(10, 2)
    masks = blocks.repeat_interleave(10, 3)[:, 0].to(torch.uint8)
    batch = (masks * 255)[:, None].expand(-1, 3, -1, -1)
    drawn = views(16, elastic=elastic, blur=0, brightness=0, contrast=0, saturation=0, balance=0)
    seen, seen_masks = augment_both(batch, masks, drawn, 64)
    assert seen_masks.dtype is torch.int64
    clear = (seen[:, 0] < 5) | (seen[:, 0] > 250)
    assert clear.float().mean() > 0.6
    assert ((seen[:, 0] > 127) == (seen_masks == 1))[clear].all()


def test_masks_get_no_new_labels() -> None:
    masks = torch.randint(0, 5, (4, 40, 40), dtype=torch.uint8, generator=generator(1))
    assert set(moved_mask(masks, grids(views(4), 32)).unique().tolist()) <= {0, 1, 2, 3, 4}


def test_an_elastic_view_bends_what_was_straight() -> None:
    still: dict[str, object] = {"turn_deg": 0, "zoom": (1, 1), "stretch": 0, "shift": 0, "flip": False}
    straight = torch.zeros(1, 40, 40, dtype=torch.uint8)
    straight[:, :, :20] = 1
    kept = moved_mask(straight, grids(views(1, **still), 40))
    bent = moved_mask(straight, grids(views(1, elastic=0.2, **still), 40))
    assert torch.equal(kept.to(torch.uint8), straight)
    assert len(bent.sum(dim=2).unique()) > 1


def test_an_upright_recipe_never_flips() -> None:
    left = torch.zeros(64, 3, 32, 32)
    left[:, :, :, :16] = 255
    upright: dict[str, object] = {"turn_deg": 10, "flip": False, "shift": 0.1, "zoom": (0.9, 1.1)}
    for flip in (False, True):
        seen = moved(left, grids(views(64, **{**upright, "flip": flip}), 32))
        sides = seen[..., :8].mean(dim=(1, 2, 3)) > seen[..., -8:].mean(dim=(1, 2, 3))
        assert bool(sides.all()) is not flip


def test_processes_that_share_views_see_what_one_would() -> None:
    batch, drawn = pictures(6), views(6)
    cpu = torch.device("cpu")
    whole = augment(batch, drawn, 32)
    halves = [augment(batch[rank::2], drawn.share(slice(rank, None, 2), cpu), 32) for rank in range(2)]
    for rank, half in enumerate(halves):
        assert torch.allclose(half, whole[rank::2], atol=1e-4)
