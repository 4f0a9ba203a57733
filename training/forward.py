"""Runs a network over pictures that are already tensors."""

import torch
from torch import Tensor

from shared.cards import Preprocess
from shared.preprocess import normalise


@torch.inference_mode()
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
    network.eval()
    rows = [
        network(normalise(chunk.to(device), preprocess, dtype)).cpu() for chunk in pictures.split(microbatch)
    ]
    return torch.cat(rows)
