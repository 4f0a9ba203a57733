"""Class-activation maps: where in the picture a network's last features speak for a label."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from shared.cards import ModelCard
from shared.networks import Classifier
from shared.preprocess import normalise


@torch.inference_mode()
def activation_map(network: Classifier, card: ModelCard, picture: Tensor, label: int) -> NDArray[np.float32]:
    """The last layer asked at each place of the last features, as if the whole picture looked like that place.

    One forward pass. With a mean over places and a linear layer behind it, as in most networks, this is the
    class-activation map.

    Shapes: picture (3, S, S) uint8 -> (S, S), 0 at the least place and 1 at the greatest
    Source: Zhou et al. 2016, Learning Deep Features for Discriminative Localization
    """
    body = network.body
    features = body.forward_features(normalise(picture[None], card.preprocess, torch.float32))  # type: ignore[operator]
    _, channels, height, width = features.shape
    places = features.permute(0, 2, 3, 1).reshape(-1, channels, 1, 1)
    logits = network.last_layer()(body.forward_head(places, pre_logits=True))  # type: ignore[operator]
    grid = logits[:, label].reshape(1, 1, height, width)
    size = card.preprocess.size_px
    found = F.interpolate(grid, (size, size), mode="bilinear", align_corners=False)[0, 0].numpy()
    scaled: NDArray[np.float32] = (found - found.min()) / max(float(found.max() - found.min()), 1e-12)
    return scaled


def has_activation_map(card: ModelCard) -> bool:
    """Only networks of timm are taken apart before their last layers."""
    return card.architecture.source == "timm"
