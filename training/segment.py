"""Training a segmenter: a label for every pixel."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.cards import ModelCard, SegmentMetrics
from shared.heads import pixel_probabilities
from shared.masks import enlarged
from shared.networks import Network, for_inference
from training.calibrate import temperature
from training.forward import chunks
from training.losses import segmentation_loss
from training.metrics import Array, Labels, segment_metrics
from training.objective import Held, Objective
from training.overlap import dice, hausdorff95, iou, mean, thresholded
from training.pictures import checked_mask, load_masks
from training.samples import Archives, Sample

PIXELS = 200  # of each picture that calibration looks at, drawn at random
ROWS = 3  # figures of each label of a picture: Dice, IoU, Hausdorff 95

Evidence = tuple[Array, Labels, Array]  # logits (M, C) and truth (M,) of pixels, smallest true share (C,)


class Segment(Objective):
    """The loss that the configuration names, over masks that went through their pictures' views."""

    def truth(self, samples: Sequence[Sample], size_px: int) -> Tensor:
        return load_masks(samples, size_px, len(self.head.labels), "reading masks")

    def start(self, truth: Tensor) -> None:
        weights = self.config.loss_weights or (1.0,) * len(self.head.labels)
        self._loss = segmentation_loss(self.config.loss, weights)

    def target(self, truth: Tensor) -> Tensor:
        return truth

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return self._loss(logits.float(), target)

    def validate(self, network: Network, held: Held) -> dict[str, float]:
        """At the network's own size, which is quicker than the masks' and ranks epochs alike."""
        masks = held.truth.numpy()
        found = [
            row
            for logits in self._logits(network, held)
            for row in logits.argmax(dim=1).to(torch.uint8).numpy()
        ]
        labels = len(self.head.labels)
        overlaps = np.stack([dice(one, mask, labels) for one, mask in zip(found, masks, strict=True)])
        jaccard = np.stack([iou(one, mask, labels) for one, mask in zip(found, masks, strict=True)])
        return {
            "mean_dice": float(mean(mean(overlaps[:, 1:], axis=0))),
            "mean_iou": float(mean(mean(jaccard[:, 1:], axis=0))),
            "thresholded_jaccard": float(mean(thresholded(jaccard[:, 1:]))),
        }

    def _logits(self, network: Network, held: Held, dtype: torch.dtype = torch.float32):  # type: ignore[no-untyped-def]
        return chunks(network, held.pictures, self.preprocess, 32, self.device, dtype)

    def card_fields(self) -> dict[str, Any]:
        return {"smallest_area": {label.code: 0.0 for label in self.head.labels[1:]}}

    def evidence(self, network: Network, held: Held) -> Evidence:
        """Some pixels of each picture; all would be gigabytes, and neighbours say the same."""
        labels = len(self.head.labels)
        random = torch.Generator().manual_seed(0)
        logits, truth, start = [], [], 0
        for chunk in self._logits(network, held):
            rows = held.truth[start : start + len(chunk)].flatten(1)
            chosen = torch.randint(rows.shape[1], (len(chunk), PIXELS), generator=random)
            logits.append(chunk.flatten(2).gather(2, chosen[:, None].expand(-1, labels, -1)).movedim(1, -1))
            truth.append(rows.gather(1, chosen))
            start += len(chunk)
        return (
            torch.cat(logits).reshape(-1, labels).double().numpy(),
            torch.cat(truth).reshape(-1).long().numpy(),
            _smallest(held.truth, labels),
        )

    def calibrated(self, card: ModelCard, evidence: Sequence[Evidence]) -> ModelCard:
        """Half of the smallest true area: what is smaller was never a label's whole area."""
        logits = np.concatenate([one[0] for one in evidence])
        truth = np.concatenate([one[1] for one in evidence])
        smallest = np.min([one[2] for one in evidence], axis=0) / 2
        codes = card.labels[1:]
        return card.model_copy(
            update={
                "temperature": round(temperature(logits, truth), 4),
                "smallest_area": {code: round(float(smallest[n]), 6) for n, code in enumerate(codes, 1)},
            }
        )

    def deviation(self, card: ModelCard, network: Network, held: Held) -> float:
        coarse = for_inference(network, self.device, torch.bfloat16)
        pairs = zip(self._logits(network, held), self._logits(coarse, held, torch.bfloat16), strict=True)
        changed = [(one.argmax(1) != other.argmax(1)).float().mean(dim=(1, 2)) for one, other in pairs]
        return float(torch.cat(changed).max())

    def outcome(self, card: ModelCard, network: Network, held: Held) -> Array:
        """Shapes: -> (N, ROWS, labels); NaN where a figure is not defined."""
        labels = len(card.labels)
        rows = np.full((len(held.samples), ROWS, labels), np.nan)
        smallest = (0.0, *(card.smallest_area[code] for code in card.labels[1:]))
        number = 0
        with Archives() as archives:
            for logits in self._logits(network, held):
                for shares in pixel_probabilities(logits, card).numpy():
                    mask = checked_mask(held.samples[number], archives, labels, [])
                    assert mask is not None  # it was read before the first epoch
                    found = enlarged(shares, (mask.shape[1], mask.shape[0]), smallest).mask
                    for row, figure in enumerate((dice, iou, hausdorff95)):
                        rows[number, row] = figure(found, mask, labels)
                    number += 1
        return rows

    def metrics(
        self, card: ModelCard, split: str, samples: Sequence[Sample], outcome: Array
    ) -> SegmentMetrics:
        return segment_metrics(split, card.labels, [sample.group for sample in samples], outcome)


def _smallest(masks: Tensor, labels: int) -> NDArray[np.float64]:
    """The smallest share of a picture that each label takes where it is at all; 1 if it nowhere is."""
    areas = torch.stack([(masks == label).float().mean(dim=(1, 2)) for label in range(labels)], dim=1).numpy()
    smallest: NDArray[np.float64] = np.where(areas > 0, areas, 1.0).min(axis=0)
    return smallest
