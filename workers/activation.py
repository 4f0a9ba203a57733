"""Class-activation maps: where in the picture a network's last features speak for a label."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from shared.cards import ModelCard
from shared.networks import Classifier
from shared.preprocess import normalise
from workers.lime import superpixels

ROUNDING = 1e-6  # relative; places that differ by no more are alike


@torch.inference_mode()
def activation_map(network: Classifier, card: ModelCard, picture: Tensor, label: int) -> NDArray[np.float32]:
    """The last layer asked at each place of the last features, as if the whole picture looked like that place.

    One forward pass. With a mean over places and a linear layer behind it, as in most networks, this is the
    class-activation map. There are few places, 6 x 6 for the skin network, so their values are averaged over LIME's
    superpixels, whose edges are the picture's own.

    Shapes: picture (3, S, S) uint8 -> (S, S), 0 at the least superpixel and 1 at the greatest; 0 if all are alike
    Source: Zhou et al. 2016, Learning Deep Features for Discriminative Localization
    """
    body = network.body
    features = body.forward_features(normalise(picture[None], card.preprocess, torch.float32))  # type: ignore[operator]
    _, channels, height, width = features.shape
    places = features.permute(0, 2, 3, 1).reshape(-1, channels, 1, 1)
    logits = network.last_layer()(body.forward_head(places, pre_logits=True))  # type: ignore[operator]
    grid = logits[:, label].reshape(1, 1, height, width)
    size = card.preprocess.size_px
    smooth = F.interpolate(grid, (size, size), mode="bilinear", align_corners=False)[0, 0].numpy()
    found = averaged(smooth, superpixels(picture.permute(1, 2, 0).numpy()))
    span = float(np.ptp(found))
    if span <= ROUNDING * float(np.abs(found).max()):
        return np.zeros_like(found)
    scaled: NDArray[np.float32] = (found - found.min()) / span
    return scaled


def averaged(values: NDArray[np.float32], areas: NDArray[np.int64]) -> NDArray[np.float32]:
    """Each pixel gets the mean of its area.

    Shapes: values (S, S), areas (S, S) numbered from 0 without gaps -> (S, S)
    """
    sums, sizes = np.bincount(areas.ravel(), values.ravel()), np.bincount(areas.ravel())
    means: NDArray[np.float32] = (sums / sizes).astype(np.float32)[areas]
    return means


def has_activation_map(card: ModelCard) -> bool:
    """Only networks of timm are taken apart before their last layers."""
    return card.architecture.source == "timm"
