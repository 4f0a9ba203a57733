"""Card to network: builds the architecture that a card names and loads its weights strictly."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

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
        options: dict[str, Any] = (
            {"drop_path_rate": drop_path} if drop_path else {}
        )  # not every network knows it
        self.body: nn.Module = timm.create_model(
            architecture.name, pretrained=False, num_classes=classes, drop_rate=drop, **options
        )

    def forward(self, batch: Tensor) -> Tensor:
        """Shapes: (N, 3, H, W) normalised -> (N, classes) float32 logits."""
        features = self.body.forward_features(batch)  # type: ignore[operator]
        pooled = self.body.forward_head(features, pre_logits=True)  # type: ignore[operator]
        with torch.autocast(pooled.device.type, enabled=False):
            return self.body.get_classifier()(pooled.float())  # type: ignore[operator,no-any-return]


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


def for_inference(network: Classifier, device: torch.device, dtype: torch.dtype) -> Classifier:
    """A copy that computes the same faster: BatchNorm folded into convolutions, body in `dtype`.

    The last layer stays in float32.
    """
    ready = folded(network).to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    ready.body.get_classifier().float()
    return ready  # type: ignore[no-any-return]


@torch.no_grad()
def folded(network: Classifier) -> Classifier:
    """A copy without BatchNorm where every one follows its convolution, as in most networks.

    Folding is proven on a random picture; a network that puts its normalisation elsewhere, such as
    DenseNet, fails that proof and is copied as it is.
    """
    copy = deepcopy(network).eval()
    before: tuple[nn.Module, str] | None = None
    for parent in list(copy.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d):
                before = (parent, name)
            elif isinstance(child, nn.BatchNorm2d):
                if before and getattr(*before).out_channels == child.num_features:
                    _fold(before, parent, name)
                before = None
    picture = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    same = torch.allclose(copy(picture), network.eval()(picture), atol=1e-4, rtol=1e-4)
    return copy if same else deepcopy(network)


def _fold(place: tuple[nn.Module, str], parent: nn.Module, name: str) -> None:
    """Put a convolution that includes its BatchNorm in place, and leave only the activation behind."""
    norm = getattr(parent, name)
    convolution = getattr(*place)
    # The package's own function knows the plain class; timm's subclasses of both pad or activate besides.
    weight, bias = fuse_conv_bn_weights(
        convolution.weight,
        convolution.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )
    convolution.weight, convolution.bias = weight, bias
    setattr(parent, name, getattr(norm, "act", nn.Identity()))


def save_weights(network: nn.Module, path: Path, dtype: torch.dtype) -> None:
    """Floating tensors in `dtype`; counters (BatchNorm's) as they are."""
    state = {
        name: (value.to(dtype) if value.is_floating_point() else value).contiguous().cpu()
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    save_file(state, path)
