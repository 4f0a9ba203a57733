"""How far a picture is from those that a network was trained on, and whether it can be seen at all.

Computed in the same pass as the logits, as further columns, so that doubting costs a job nothing.
"""

import math
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from shared.cards import Doubt, ModelCard, Preprocess, sha256_of
from shared.errors import CardMismatch
from shared.networks import Classifier, Network
from shared.schemas import Warning

FILE = "doubt.safetensors"
GREY = (0.299, 0.587, 0.114)  # Source: ITU-R BT.601
FLAT = 1e-6  # a variance that rounding alone can make
LAPLACE = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))


class Seen(NamedTuple):
    """One picture's columns behind its logits. Brightness and contrast are of grey values from 0 to 1."""

    distance: float  # from the training pictures; 1 is the card's limit
    sharpness: float  # log10 of the Laplacian's variance
    brightness: float  # mean
    contrast: float  # standard deviation


class Familiar(nn.Module):
    """The distance of pooled features from those of training pictures.

    Features are turned and scaled so that those of training pictures vary by 1 in each of the axes that are
    kept, and by 1 on the whole in all the others together; the distance is the root of the mean square.

    Source: Lee et al. 2018, arXiv:1807.03888 (Mahalanobis distance); Wang et al. 2022, arXiv:2203.10807
    (the part outside the main axes)
    """

    mean: Tensor
    axes: Tensor
    deviations: Tensor
    rest: Tensor
    limit: Tensor

    def __init__(self, features: int, axes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("axes", torch.zeros(axes, features))  # each divided by its deviation
        self.register_buffer("deviations", torch.ones(axes))
        self.register_buffer("rest", torch.ones(1))  # deviation outside the axes
        self.register_buffer("limit", torch.ones(1))  # the distance that counts as 1

    def forward(self, pooled: Tensor) -> Tensor:
        """Shapes: (N, features) float32 -> (N,)"""
        centred = pooled - self.mean
        along = centred @ self.axes.T
        inside = (along * self.deviations).square().sum(1)
        outside = (centred.square().sum(1) - inside).clamp_min(0) / self.rest.square()
        return (along.square().mean(1) + outside).sqrt() / self.limit


def quality(batch: Tensor, preprocess: Preprocess) -> Tensor:
    """Sharpness, brightness and contrast of pictures as the network sees them.

    Shapes: (N, 3, S, S) normalised -> (N, 3) float32
    """
    mean = torch.tensor(preprocess.mean, device=batch.device).view(1, 3, 1, 1)
    std = torch.tensor(preprocess.std, device=batch.device).view(1, 3, 1, 1)
    weights = torch.tensor(GREY, device=batch.device).view(1, 3, 1, 1)
    grey = ((batch.float() * std + mean) * weights).sum(1, keepdim=True)
    edges = F.conv2d(grey, torch.tensor(LAPLACE, device=batch.device)[None, None])
    sharpness = edges.flatten(1).var(1).clamp_min(FLAT).log() / math.log(10)
    flat = grey.flatten(1)
    return torch.stack([sharpness, flat.mean(1), flat.std(1)], 1)


class Doubting(Network):
    """A classifier whose answer has further columns: a distance, then `quality`."""

    def __init__(self, network: Classifier, familiar: Familiar, preprocess: Preprocess) -> None:
        super().__init__()
        self.network, self.familiar, self.preprocess = network, familiar, preprocess
        self.body = network.body

    def last_layer(self) -> nn.Module:
        """Everything that stays in float32."""
        return nn.ModuleList([self.network.last_layer(), self.familiar])

    def forward(self, batch: Tensor) -> Tensor:
        """Shapes: (N, 3, S, S) normalised -> (N, classes + 4) float32"""
        pooled = self.network.pooled(batch)
        with torch.autocast(batch.device.type, enabled=False):
            pooled = pooled.float()
            logits = self.network.last_layer()(pooled)
            distance = self.familiar(pooled)[:, None]
            return torch.cat([logits, distance, quality(batch, self.preprocess)], 1)


def save_familiar(familiar: Familiar, folder: Path) -> str:
    """Write the distance's numbers beside the weights, and answer with their sha256."""
    state = {name: value.half() if name == "axes" else value for name, value in familiar.state_dict().items()}
    save_file({name: value.contiguous() for name, value in state.items()}, folder / FILE)
    return sha256_of(folder / FILE)


def load_familiar(card: ModelCard, folder: Path) -> Familiar:
    """Raises: CardMismatch if the file is not the one that the card was measured with"""
    assert card.doubt
    path = folder / FILE
    if not path.is_file() or sha256_of(path) != card.doubt.sha256:
        raise CardMismatch(f"{card.name}: {FILE} is missing beside its card, or is not the card's.")
    state = {name: value.float() for name, value in load_file(path).items()}
    axes, features = state["axes"].shape
    familiar = Familiar(features, axes)
    familiar.load_state_dict(state)
    return familiar


def doubting(network: Network, card: ModelCard, folder: Path) -> Network:
    """The network with its doubts, if the card has any.

    Raises: CardMismatch if the numbers beside the weights are not the card's
    """
    if card.doubt is None:
        return network
    if not isinstance(network, Classifier):
        raise CardMismatch(f"{card.name}: only a classifier can doubt, not a {card.head} head.")
    return Doubting(network, load_familiar(card, folder), card.preprocess)


def warnings(seen: Seen, limits: Doubt, side_px: int) -> list[Warning]:
    """What a reader must know beside the findings. `side_px` is the picture's shorter side."""
    found = []
    if seen.distance > 1:
        found.append(
            Warning(
                code="out_of_distribution",
                detail="The picture is unlike those that the network was trained on: "
                f"{seen.distance:.2f} times the distance that is usual.",
            )
        )
    if said := _poor(seen, limits, side_px):
        found.append(Warning(code="low_quality", detail=f"The picture is {', '.join(said)}."))
    return found


def _poor(seen: Seen, limits: Doubt, side_px: int) -> list[str]:
    said = {
        "blurred": seen.sharpness < limits.least_sharpness,
        "too dark": seen.brightness < limits.least_brightness,
        "too bright": seen.brightness > limits.greatest_brightness,
        "without contrast": seen.contrast < limits.least_contrast,
        f"too small ({side_px} pixels; {limits.least_side_px} are needed)": side_px < limits.least_side_px,
    }
    return [words for words, holds in said.items() if holds]
