"""Card to network: builds the architecture that a card names and loads its weights strictly."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from shared.cards import Architecture, ModelCard, verify
from shared.catalog import Head
from shared.errors import CardMismatch
from shared.unet_bn import UNet

WEIGHTS = "weights.safetensors"


class Network(nn.Module):
    """A body whose last layer, found by `last_layer`, stays in float32 whatever the body runs in."""

    body: nn.Module

    def last_layer(self) -> nn.Module:
        raise NotImplementedError


class Classifier(Network):
    """A timm or torchvision network; its pooled features and logits are in float32."""

    def __init__(
        self, architecture: Architecture, classes: int, *, drop: float = 0.0, drop_path: float = 0.0
    ):
        super().__init__()
        self._of_timm = architecture.source == "timm"
        if self._of_timm:
            self.body = _timm_body(architecture, classes, drop, drop_path)
        else:  # torchvision's networks cannot stop before their last layer, so it stands beside the body
            self.body = _torchvision_body(architecture, classes, drop)
            self.fc, self.body.fc = self.body.fc, nn.Identity()

    def last_layer(self) -> nn.Module:
        layer: nn.Module = self.body.get_classifier() if self._of_timm else self.fc  # type: ignore[operator,assignment]
        return layer

    def forward(self, batch: Tensor) -> Tensor:
        """Shapes: (N, 3, H, W) normalised -> (N, classes) float32 logits."""
        pooled = self.pooled(batch)
        with torch.autocast(pooled.device.type, enabled=False):
            logits: Tensor = self.last_layer()(pooled.float())
        return logits

    def pooled(self, batch: Tensor) -> Tensor:
        """Shapes: (N, 3, H, W) normalised -> (N, features), what the last layer sees."""
        if not self._of_timm:
            return self.body(batch)  # type: ignore[no-any-return]
        features = self.body.forward_features(batch)  # type: ignore[operator]
        return self.body.forward_head(features, pre_logits=True)  # type: ignore[operator,no-any-return]


class Segmenter(Network):
    """An encoder and a decoder; logits of every pixel are in float32."""

    def __init__(self, architecture: Architecture, classes: int) -> None:
        super().__init__()
        if architecture.source == "medq":
            self.body = UNet(classes, **architecture.options)
        else:
            self.body = smp.create_model(
                architecture.name, encoder_weights=None, classes=classes, **architecture.options
            )

    def last_layer(self) -> nn.Module:
        return self.body.segmentation_head  # type: ignore[return-value]

    def forward(self, batch: Tensor) -> Tensor:
        """Shapes: (N, 3, S, S) normalised, S a multiple of the network's stride -> (N, classes, S, S) float32."""
        features = self._features(batch)
        with torch.autocast(features.device.type, enabled=False):
            logits: Tensor = self.last_layer()(features.float())
        return logits

    def _features(self, batch: Tensor) -> Tensor:
        if isinstance(self.body, UNet):
            return self.body.features(batch)
        return self.body.decoder(self.body.encoder(batch))  # type: ignore[operator,no-any-return]


def _timm_body(architecture: Architecture, classes: int, drop: float, drop_path: float) -> nn.Module:
    options: dict[str, Any] = {"drop_path_rate": drop_path} if drop_path else {}  # not every network knows it
    options |= architecture.options
    body: nn.Module = timm.create_model(
        architecture.name, pretrained=False, num_classes=classes, drop_rate=drop, **options
    )
    return body


def _torchvision_body(architecture: Architecture, classes: int, drop: float) -> nn.Module:
    """GoogLeNet, which timm has not."""
    if architecture.name != "googlenet":
        raise ValueError(f"Only googlenet is taken from torchvision, not {architecture.name!r}.")
    body: nn.Module = torchvision.models.googlenet(
        weights=None, num_classes=classes, aux_logits=False, init_weights=True, dropout=drop
    )
    return body


def build_network(
    architecture: Architecture, head: Head, *, drop: float = 0.0, drop_path: float = 0.0
) -> Network:
    """A network with as many outputs as the head needs, its weights not yet loaded.

    Raises: ValueError if the package has no network of that name, or cannot answer that kind of head
    """
    try:
        if head.kind == "segment":
            _allow(architecture, "smp", "medq")
            return Segmenter(architecture, len(head.labels))
        _allow(architecture, "timm", "torchvision")
        outputs = len(head.labels) * max(1, len(head.grades))
        return Classifier(architecture, outputs, drop=drop, drop_path=drop_path)
    except (RuntimeError, TypeError, KeyError) as error:
        raise ValueError(f"{architecture.source} cannot build {architecture.name!r}: {error}") from error


def _allow(architecture: Architecture, *sources: str) -> None:
    if architecture.source not in sources:
        raise ValueError(f"This kind of head takes networks from {' or '.join(sources)}.")
    if architecture.source == "medq" and architecture.name != "unet_bn":
        raise ValueError(f"Our own network is unet_bn, not {architecture.name!r}.")


def load_network(card: ModelCard, head: Head, folder: Path) -> Network:
    """The card's network in float32, in eval mode, with its weights verified and loaded strictly.

    Raises: CardMismatch if weights, card and catalog do not agree
    """
    weights = folder / WEIGHTS
    verify(card, head, weights)
    try:
        network = build_network(card.architecture, head)
        network.load_state_dict({name: value.float() for name, value in load_file(weights).items()})
    except (RuntimeError, ValueError) as error:
        raise CardMismatch(f"{card.name}: the weights do not fit {card.architecture.name}: {error}") from None
    return network.eval()


def for_inference(network: Network, device: torch.device, dtype: torch.dtype) -> Network:
    """A copy that computes the same faster: BatchNorm folded into convolutions, body in `dtype`.

    The last layer stays in float32.
    """
    ready = folded(network).to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    ready.last_layer().float()
    return ready  # type: ignore[no-any-return]


@torch.no_grad()
def folded(network: Network) -> Network:
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
