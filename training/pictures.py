"""Pictures and masks ready for training: decoded and preprocessed as the worker does, held in memory as bytes."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from rich.progress import track
from torch import Tensor

from shared.cards import Preprocess
from shared.errors import ServiceError
from shared.images import Limits, Pixels, decode
from shared.preprocess import to_tensor
from training.samples import Archives, BadData, Copy, Mask, MaskSource, Sample


def load_pictures(copies: Sequence[Copy], preprocess: Preprocess, title: str) -> Tensor:
    """Every picture at the preprocess' size.

    Shapes: -> (N, 3, size_px, size_px) uint8, channels last in memory
    Raises: BadData listing each file that is missing or is no picture
    """
    size_px = preprocess.size_px
    pictures = torch.empty((len(copies), size_px, size_px, 3), dtype=torch.uint8)
    faults: list[str] = []
    with Archives() as archives:
        for index, copy in enumerate(track(copies, description=title, transient=True)):
            pixels = _decoded(copy, archives, size_px, faults)
            if pixels is not None:
                pictures[index] = to_tensor(pixels, preprocess).permute(1, 2, 0)
    if faults:
        raise BadData(faults)
    return pictures.permute(0, 3, 1, 2)


def _decoded(copy: Copy, archives: Archives, at_least_px: int | None, faults: list[str]) -> Pixels | None:
    try:
        return decode(copy.read(archives), Limits(), at_least_px=at_least_px)
    except (ServiceError, OSError, KeyError) as error:
        faults.append(f"{copy}: {getattr(error, 'detail', error)}")
        return None


def load_masks(samples: Sequence[Sample], size_px: int, labels: int, title: str) -> Tensor:
    """Every mask stretched to a square, each pixel the label that is nearest.

    Shapes: -> (N, size_px, size_px) uint8
    Raises: BadData listing each mask that is missing, unreadable, of another size than its picture or with a
        value that is no label
    """
    masks = torch.empty((len(samples), size_px, size_px), dtype=torch.uint8)
    faults: list[str] = []
    with Archives() as archives:
        for index, sample in enumerate(track(samples, description=title, transient=True)):
            mask = checked_mask(sample, archives, labels, faults)
            if mask is not None:
                small = Image.fromarray(mask).resize((size_px, size_px), Image.Resampling.NEAREST)
                masks[index] = torch.from_numpy(np.array(small))
    if faults:
        raise BadData(faults)
    return masks


def checked_mask(sample: Sample, archives: Archives, labels: int, faults: list[str]) -> Mask | None:
    """The sample's mask in its own size, or a fault."""
    source: MaskSource | None = sample.mask
    if source is None:
        faults.append(f"{sample.id}: it has no mask")
        return None
    try:
        mask = source.read(archives)
    except (ServiceError, OSError, ValueError, KeyError, TypeError) as error:
        faults.append(f"{sample.id}: its mask cannot be read: {error}")
        return None
    if mask.max() >= labels:
        faults.append(f"{sample.id}: its mask holds the value {mask.max()}; there are {labels} labels")
        return None
    pixels = _decoded(sample.copies[0], archives, None, [])  # what is no picture is told by load_pictures
    if pixels is not None and pixels.shape[:2] != mask.shape:
        faults.append(
            f"{sample.id}: its mask is {mask.shape}, its picture {pixels.shape[:2]} pixels high and wide"
        )
        return None
    return mask
