"""Logits to findings."""

import torch
from torch import Tensor

from shared.cards import ModelCard
from shared.catalog import Head, Lang
from shared.schemas import Finding


def probabilities(logits: Tensor, card: ModelCard) -> Tensor:
    """Calibrated probabilities of a single-label head; each row sums to 1.

    Shapes: (N, classes) -> (N, classes) float32
    Source: Guo et al. 2017, On Calibration of Modern Neural Networks (temperature scaling).
    """
    return torch.softmax(logits.float() / card.temperature, dim=-1)


def grade_probabilities(logits: Tensor, card: ModelCard) -> Tensor:
    """Calibrated probabilities of every condition's grades; they sum to 1 for each condition.

    Shapes: (N, labels x grades) -> (N, labels, grades) float32
    """
    separate = logits.float().view(len(logits), len(card.labels), len(card.grades))
    return torch.softmax(separate / card.temperature, dim=-1)


def pixel_probabilities(logits: Tensor, card: ModelCard) -> Tensor:
    """Calibrated probabilities of every pixel's labels; they sum to 1 at each pixel.

    Shapes: (N, classes, S, S) -> (N, classes, S, S) float32
    """
    return torch.softmax(logits.float() / card.temperature, dim=1)


def findings(row: list[float], card: ModelCard, head: Head, lang: Lang) -> list[Finding]:
    """One picture's findings, most probable first."""
    found = [
        Finding(
            label=label.code,
            name=label.name(lang),
            probability=value,
            above_threshold=value >= card.thresholds[label.code],
        )
        for label, value in zip(head.labels, row, strict=True)
    ]
    return sorted(found, key=lambda finding: -finding.probability)
