"""Random views of a whole microbatch at once: one affine resampling and one colour change per picture."""

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


def uniform(count: int, low: float, high: float, random: Generator) -> Tensor:
    return torch.empty(count).uniform_(low, high, generator=random)


def affine(batch: Tensor, size_px: int, random: Generator) -> Tensor:
    """Flip, turn by any angle, zoom, stretch and shift in one bilinear resampling.

    A lesion has no upright side, so every angle is as likely as any other; edges are mirrored.

    Shapes: (N, 3, H, W) float -> (N, 3, size_px, size_px) float
    """
    count = len(batch)
    angle = uniform(count, -math.pi, math.pi, random)
    zoom = uniform(count, 0.65, 1.05, random)  # share of the picture's side that stays in view
    stretch = uniform(count, -0.15, 0.15, random).exp()
    flip = torch.where(torch.rand(count, generator=random) < 0.5, -1.0, 1.0)
    shift = torch.stack([uniform(count, -0.15, 0.15, random) for _ in range(2)], dim=1)
    matrix = torch.empty(count, 2, 3)
    matrix[:, 0, 0] = angle.cos() * zoom * stretch * flip
    matrix[:, 0, 1] = -angle.sin() * zoom / stretch
    matrix[:, 1, 0] = angle.sin() * zoom * stretch * flip
    matrix[:, 1, 1] = angle.cos() * zoom / stretch
    matrix[:, :, 2] = shift
    grid = F.affine_grid(matrix, [count, 3, size_px, size_px], align_corners=False)
    return F.grid_sample(batch, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def colour(batch: Tensor, random: Generator) -> Tensor:
    """Brightness, contrast, saturation and white balance, as other cameras and dermatoscopes differ.

    Shapes: (N, 3, H, W) float in [0, 255] -> the same
    """
    count = len(batch)
    grey = batch.mean(dim=1, keepdim=True)
    saturation = uniform(count, 0.7, 1.3, random).view(-1, 1, 1, 1)
    batch = grey + (batch - grey) * saturation
    mean = batch.mean(dim=(1, 2, 3), keepdim=True)
    contrast = uniform(count, 0.75, 1.25, random).view(-1, 1, 1, 1)
    brightness = uniform(count, 0.8, 1.2, random).view(-1, 1, 1, 1)
    balance = uniform(count * 3, 0.92, 1.08, random).view(-1, 3, 1, 1)
    return ((batch - mean) * contrast + mean * brightness).mul(balance).clamp_(0, 255)


def blur(batch: Tensor, random: Generator) -> Tensor:
    """Halve and enlarge again a third of the pictures: many of the sources are that coarse.

    Shapes: (N, 3, H, W) float -> the same
    """
    chosen = torch.rand(len(batch), generator=random) < 0.3
    if chosen.any():
        half = F.interpolate(batch[chosen], scale_factor=0.5, mode="bilinear", antialias=True)
        batch[chosen] = F.interpolate(half, size=batch.shape[-2:], mode="bilinear")
    return batch


def augment(batch: Tensor, size_px: int, random: Generator) -> Tensor:
    """Shapes: (N, 3, H, W) uint8 -> (N, 3, size_px, size_px) float in [0, 255]."""
    return blur(colour(affine(batch.float(), size_px, random), random), random)
