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
