"""Random views: what they may change, and what they may not."""

import pytest
import torch

from training.augment import affine, augment, blur, colour


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int = 6, size: int = 40) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator(7))


def test_views_have_the_size_that_was_asked_and_stay_bytes() -> None:
    views = augment(pictures(), 32, generator())
    assert views.shape == (6, 3, 32, 32)
    assert views.min() >= 0
    assert views.max() <= 255


def test_the_same_seed_makes_the_same_views_and_another_others() -> None:
    first, again, other = (augment(pictures(), 32, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_the_originals_stay_as_they_are() -> None:
    before = pictures()
    kept = before.clone()
    augment(before, 32, generator())
    assert torch.equal(before, kept)


def test_geometry_invents_no_value() -> None:
    flat = torch.full((8, 3, 40, 40), 120.0)
    assert torch.allclose(affine(flat, 32, generator()), torch.full((8, 3, 32, 32), 120.0), atol=1e-3)


def test_geometry_keeps_lesions_in_view() -> None:
    """A disc in the middle is still there, whatever the turn, zoom and shift."""
    disc = torch.zeros(64, 3, 48, 48)
    disc[:, :, 14:34, 14:34] = 255
    assert (affine(disc, 32, generator()).amax(dim=(1, 2, 3)) > 250).all()


def test_colour_changes_every_picture_in_its_own_way() -> None:
    same = torch.rand(1, 3, 16, 16).mul(255).expand(8, -1, -1, -1).clone()
    views = colour(same, generator())
    assert len({round(float(view.mean()), 3) for view in views}) == 8


def test_blur_takes_only_some_and_never_the_mean() -> None:
    batch = torch.rand(64, 3, 16, 16)
    views = blur(batch.clone(), generator())
    changed = [not torch.equal(a, b) for a, b in zip(batch, views, strict=True)]
    assert 0.1 < sum(changed) / 64 < 0.5
    assert float(views.mean()) == pytest.approx(float(batch.mean()), abs=0.01)
