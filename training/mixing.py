"""Mixup and CutMix: pictures that show two labels at once, with a target that says how much of each."""

import numpy as np
import torch
from torch import Generator, Tensor

from training.config import TrainConfig


def blended(batch: Tensor, target: Tensor, config: TrainConfig, random: Generator) -> tuple[Tensor, Tensor]:
    """Mix every picture with another, in every second microbatch; by CutMix or Mixup, whichever is drawn.

    Masks (integer targets) cannot be blended and are left as they are.
    """
    ways = [way for way, alpha in ((mixup, config.mixup), (cutmix, config.cutmix)) if alpha]
    if not ways or not target.is_floating_point() or torch.rand(1, generator=random).item() < 0.5:
        return batch, target
    way = ways[int(torch.randint(len(ways), (1,), generator=random))]
    return way(batch, target, config.mixup if way is mixup else config.cutmix, random)


def mixup(batch: Tensor, target: Tensor, alpha: float, random: Generator) -> tuple[Tensor, Tensor]:
    """Lay another picture over each.

    Shapes: batch (N, 3, H, W), target (N, ...) -> the same
    Source: Zhang et al. 2017, arXiv:1710.09412
    """
    share = _share(alpha, random)
    other = torch.randperm(len(batch), generator=random)
    return batch * share + batch[other] * (1 - share), target * share + target[other] * (1 - share)


def cutmix(batch: Tensor, target: Tensor, alpha: float, random: Generator) -> tuple[Tensor, Tensor]:
    """Put a rectangle of another picture into each; the target follows the area.

    Shapes: batch (N, 3, H, W), target (N, ...) -> the same
    Source: Yun et al. 2019, arXiv:1905.04899
    """
    height, width = batch.shape[-2:]
    side = (1 - _share(alpha, random)) ** 0.5
    middle = torch.rand(2, generator=random).tolist()
    top, bottom = _span(middle[0], side, height)
    left, right = _span(middle[1], side, width)
    other = torch.randperm(len(batch), generator=random)
    mixed = batch.clone()
    mixed[:, :, top:bottom, left:right] = batch[other, :, top:bottom, left:right]
    share = 1 - (bottom - top) * (right - left) / (height * width)
    return mixed, target * share + target[other] * (1 - share)


def _span(middle: float, side: float, length: int) -> tuple[int, int]:
    return max(0, round((middle - side / 2) * length)), min(length, round((middle + side / 2) * length))


def _share(alpha: float, random: Generator) -> float:
    seed = int(torch.randint(2**31, (1,), generator=random))
    return float(np.random.default_rng(seed).beta(alpha, alpha))
