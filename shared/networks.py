"""Card to network: builds the architecture that a card names and loads its weights strictly."""

from pathlib import Path

import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from shared.cards import Architecture, ModelCard, verify
from shared.catalog import Head
from shared.errors import CardMismatch

WEIGHTS = "weights.safetensors"


class Classifier(nn.Module):
    """A timm network whose pooled features and logits stay in float32 whatever the body runs in."""

    def __init__(
        self, architecture: Architecture, classes: int, *, drop: float = 0.0, drop_path: float = 0.0
    ):
        super().__init__()
        self.body: nn.Module = timm.create_model(
            architecture.name, pretrained=False, num_classes=classes, drop_rate=drop, drop_path_rate=drop_path
        )

    def forward(self, batch: Tensor) -> Tensor:
        """Shapes: (N, 3, H, W) normalised -> (N, classes) float32 logits."""
        features = self.body.forward_features(batch)  # type: ignore[operator]
        pooled = self.body.forward_head(features, pre_logits=True)  # type: ignore[operator]
        with torch.autocast(pooled.device.type, enabled=False):
            return self.body.get_classifier()(pooled.float())  # type: ignore[operator,no-any-return]

    def head_in_float32(self) -> None:
        """Keep the last layer's weights in float32 after the body was cast down."""
        self.body.get_classifier().float()  # type: ignore[operator]


def load_network(card: ModelCard, head: Head, folder: Path) -> Classifier:
    """The card's network in float32, in eval mode, with its weights verified and loaded strictly.

    Raises: CardMismatch if weights, card and catalog do not agree
    """
    weights = folder / WEIGHTS
    verify(card, head, weights)
    network = Classifier(card.architecture, len(card.labels))
    try:
        network.load_state_dict({name: value.float() for name, value in load_file(weights).items()})
    except RuntimeError as error:
        raise CardMismatch(f"{card.name}: the weights do not fit {card.architecture.name}: {error}") from None
    return network.eval()


def save_weights(network: nn.Module, path: Path, dtype: torch.dtype) -> None:
    """Floating tensors in `dtype`; counters (BatchNorm's) as they are."""
    state = {
        name: (value.to(dtype) if value.is_floating_point() else value).contiguous().cpu()
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    save_file(state, path)
