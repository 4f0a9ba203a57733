"""Runs a network over pictures that are already tensors."""

from collections.abc import Iterator

import torch
from torch import Tensor

from shared.cards import Preprocess
from shared.preprocess import normalise


def chunks(
    network: torch.nn.Module,
    pictures: Tensor,
    preprocess: Preprocess,
    microbatch: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Iterator[Tensor]:
    """Float32 logits on the CPU, one microbatch after the other.

    Shapes: pictures (N, 3, S, S) uint8 -> (up to `microbatch`, ...) float32
    """
    network.eval()
    for chunk in pictures.split(microbatch):
        with torch.inference_mode():
            logits = network(normalise(chunk.to(device), preprocess, dtype)).cpu()
        yield logits


def predict(
    network: torch.nn.Module,
    pictures: Tensor,
    preprocess: Preprocess,
    microbatch: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Float32 logits of every picture.

    Shapes: pictures (N, 3, S, S) uint8 -> (N, classes) float32 on the CPU
    """
    return torch.cat(list(chunks(network, pictures, preprocess, microbatch, device, dtype)))
