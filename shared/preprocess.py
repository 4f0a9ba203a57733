"""Array to tensor: the same code for training, evaluation and serving."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from shared.cards import Preprocess


def to_tensor(pixels: NDArray[np.uint8], preprocess: Preprocess) -> Tensor:
    """The part that the card names, resized; still bytes, since normalisation is cheaper on the device.

    Shapes: pixels (H, W, 3) uint8 RGB -> (3, size_px, size_px) uint8, channels last in memory
    """
    square = pixels[square_of(pixels.shape[1], pixels.shape[0], preprocess)]
    size = preprocess.size_px
    if square.shape[:2] != (size, size):
        picture = Image.fromarray(np.ascontiguousarray(square))
        square = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
    # A copy: PIL's buffer is read-only, and a slice would keep the whole picture alive in the queue.
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)


def square_of(width: int, height: int, preprocess: Preprocess) -> tuple[slice, slice]:
    """Rows and columns of the picture that the network sees; with `whole`, and in tiles, it sees all."""
    if preprocess.crop != "center_square":
        return slice(0, height), slice(0, width)
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    return slice(top, top + side), slice(left, left + side)


def normalise(batch: Tensor, preprocess: Preprocess, dtype: torch.dtype) -> Tensor:
    """(x / 255 - mean) / std, folded into one multiply and add, computed in float32.

    Shapes: batch (N, 3, H, W) uint8 -> (N, 3, H, W) dtype, channels last in memory
    """
    mean = torch.tensor(preprocess.mean, device=batch.device).view(1, 3, 1, 1)
    std = torch.tensor(preprocess.std, device=batch.device).view(1, 3, 1, 1)
    floats = batch.contiguous(memory_format=torch.channels_last).float()
    return floats.mul_(1 / (255 * std)).sub_(mean / std).to(dtype)
