"""Losses of segmentation: the published one for X-rays, and SMP's Dice and focal loss."""

from collections.abc import Callable

import segmentation_models_pytorch as smp
import torch
from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Tensor, Tensor], Tensor]


def soft_dice(logits: Tensor, target: Tensor, eps: float = 1e-6) -> Tensor:
    """Overlap per label over the whole microbatch, with probabilities in place of a mask.

    A label that is absent and that the network gives nothing counts as 1, since `eps` stands above and below.

    Shapes: logits (N, C, H, W), target (N, H, W) integers -> (C,)
    Source: Milletari et al. 2016, V-Net, arXiv:1606.04797, with the sums unsquared
    """
    shares = logits.softmax(dim=1)
    hot = F.one_hot(target, logits.shape[1]).movedim(-1, 1).to(shares.dtype)
    both = (shares * hot).sum(dim=(0, 2, 3))
    sizes = shares.sum(dim=(0, 2, 3)) + hot.sum(dim=(0, 2, 3))
    return (2 * both + eps) / (sizes + eps)


def published(weights: tuple[float, ...]) -> Loss:
    """Weighted cross-entropy + 2 x (1 - mean soft Dice), as the abdominal X-ray network was trained."""

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        entropy = F.cross_entropy(logits, target, torch.tensor(weights, device=logits.device))
        return entropy + 2 * (1 - soft_dice(logits, target).mean())

    return loss


def segmentation_loss(name: str, weights: tuple[float, ...]) -> Loss:
    """The loss that a configuration names; `weights`, one per label, are of the cross-entropy.

    Raises: ValueError
    """
    if name == "cross_entropy_dice":
        return published(weights)
    # SMP's losses have no types, and take a target of the same shape without the label axis.
    if name == "dice":
        return smp.losses.DiceLoss("multiclass")  # type: ignore[no-any-return]
    if name == "focal":
        return smp.losses.FocalLoss("multiclass")  # type: ignore[no-any-return]
    raise ValueError(f"There is no segmentation loss {name!r}; there are cross_entropy_dice, dice and focal.")
