"""Random views of a whole microbatch at once: one resampling and one colour change per picture.

What a view does is drawn first and applied afterwards, so that a mask gets the view of its picture, and so that
each of several processes can apply its share of what all of them drew.
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from training.config import Augment

BENDS = 5  # points on each side of the picture that an elastic view moves


@dataclass(frozen=True)
class Views:
    """One row per picture."""

    matrix: Tensor  # (N, 2, 3) affine, from the view's coordinates to the picture's
    bend: Tensor  # (N, 2, BENDS, BENDS) shifts in shares of half a side
    saturation: Tensor  # (N,) factors
    contrast: Tensor  # (N,)
    brightness: Tensor  # (N,)
    balance: Tensor  # (N, 3)
    blurred: Tensor  # (N,) bool

    def __len__(self) -> int:
        return len(self.matrix)

    def share(self, rows: slice, device: torch.device) -> "Views":
        return Views(*(getattr(self, field.name)[rows].to(device) for field in fields(self)))


def _uniform(count: int, low: float, high: float, random: Generator) -> Tensor:
    return torch.empty(count).uniform_(low, high, generator=random)


def draw_views(count: int, recipe: Augment, random: Generator) -> Views:
    """Every number that makes `count` views differ from their pictures."""
    return Views(
        _matrices(count, recipe, random),
        _uniform(count * 2 * BENDS**2, -recipe.elastic, recipe.elastic, random).view(count, 2, BENDS, BENDS),
        _uniform(count, 1 - recipe.saturation, 1 + recipe.saturation, random),
        _uniform(count, 1 - recipe.contrast, 1 + recipe.contrast, random),
        _uniform(count, 1 - recipe.brightness, 1 + recipe.brightness, random),
        _uniform(count * 3, 1 - recipe.balance, 1 + recipe.balance, random).view(count, 3),
        torch.rand(count, generator=random) < recipe.blur,
    )


def _matrices(count: int, recipe: Augment, random: Generator) -> Tensor:
    """Flip, turn, zoom, stretch and shift.

    Shapes: -> (N, 2, 3)
    """
    turn = math.radians(recipe.turn_deg)
    angle = _uniform(count, -turn, turn, random)
    zoom = _uniform(count, *recipe.zoom, random)
    stretch = _uniform(count, -recipe.stretch, recipe.stretch, random).exp()
    flip = torch.where(torch.rand(count, generator=random) < 0.5 * recipe.flip, -1.0, 1.0)
    matrix = torch.empty(count, 2, 3)
    matrix[:, 0, 0] = angle.cos() * zoom * stretch * flip
    matrix[:, 0, 1] = -angle.sin() * zoom / stretch
    matrix[:, 1, 0] = angle.sin() * zoom * stretch * flip
    matrix[:, 1, 1] = angle.cos() * zoom / stretch
    matrix[:, :, 2] = _uniform(count * 2, -recipe.shift, recipe.shift, random).view(count, 2)
    return matrix


def grids(views: Views, size_px: int) -> Tensor:
    """Where in its picture each pixel of a view lies, from -1 to 1.

    Shapes: -> (N, size_px, size_px, 2)
    """
    grid = F.affine_grid(views.matrix, [len(views), 1, size_px, size_px], align_corners=False)
    if views.bend.any():
        bend = F.interpolate(views.bend, size=(size_px, size_px), mode="bicubic", align_corners=True)
        grid = grid + bend.movedim(1, -1)
    return grid


def moved(batch: Tensor, grid: Tensor) -> Tensor:
    """Bilinear resampling; edges are mirrored.

    Shapes: batch (N, C, H, W) float, grid (N, S, S, 2) -> (N, C, S, S) float
    """
    return F.grid_sample(batch, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def moved_mask(masks: Tensor, grid: Tensor) -> Tensor:
    """The nearest label of each pixel, mirrored at the edges as the picture is.

    Shapes: masks (N, H, W) uint8, grid (N, S, S, 2) -> (N, S, S) int64
    """
    labels = F.grid_sample(
        masks[:, None].float(), grid, mode="nearest", padding_mode="reflection", align_corners=False
    )
    return labels[:, 0].round().long()


def coloured(batch: Tensor, views: Views) -> Tensor:
    """Brightness, contrast, saturation and white balance, as other cameras and dermatoscopes differ.

    Shapes: (N, 3, H, W) float in [0, 255] -> the same
    """
    grey = batch.mean(dim=1, keepdim=True)
    batch = grey + (batch - grey) * views.saturation.view(-1, 1, 1, 1)
    mean = batch.mean(dim=(1, 2, 3), keepdim=True)
    contrast, brightness = views.contrast.view(-1, 1, 1, 1), views.brightness.view(-1, 1, 1, 1)
    balance = views.balance.view(-1, 3, 1, 1)
    return ((batch - mean) * contrast + mean * brightness).mul(balance).clamp_(0, 255)


def blurred(batch: Tensor, views: Views) -> Tensor:
    """Halve and enlarge again some of the pictures: many of the sources are that coarse.

    Shapes: (N, 3, H, W) float -> the same
    """
    chosen = views.blurred
    if chosen.any():
        half = F.interpolate(batch[chosen], scale_factor=0.5, mode="bilinear", antialias=True)
        batch[chosen] = F.interpolate(half, size=batch.shape[-2:], mode="bilinear")
    return batch


def augment(batch: Tensor, views: Views, size_px: int) -> Tensor:
    """Shapes: (N, 3, H, W) uint8 -> (N, 3, size_px, size_px) float in [0, 255]."""
    return blurred(coloured(moved(batch.float(), grids(views, size_px)), views), views)


def augment_both(batch: Tensor, masks: Tensor, views: Views, size_px: int) -> tuple[Tensor, Tensor]:
    """A picture and its mask under the same view; colour changes only the picture.

    Shapes: (N, 3, H, W) and (N, H, W) uint8 -> (N, 3, size_px, size_px) float and (N, size_px, size_px) int64
    """
    grid = grids(views, size_px)
    return blurred(coloured(moved(batch.float(), grid), views), views), moved_mask(masks, grid)
