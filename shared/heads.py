"""Logits to findings, grades and pixels."""

from typing import Any

import torch
from torch import Tensor

from shared.cards import ModelCard
from shared.catalog import Head, Lang
from shared.schemas import Finding, Grade


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


def read_out(logits: Tensor, card: ModelCard) -> list[Any]:
    """What each picture of a microbatch gets: probabilities, off the device.

    Shapes: classify (N, C) -> N lists of C floats, behind them the columns of shared.doubt.Seen if the card has
    doubts; grade (N, K x G) -> N lists of K lists of G floats;
    segment (N, C, S, S) -> N arrays (C, S, S) of float32
    """
    if card.head == "segment":
        return list(pixel_probabilities(logits, card).cpu().numpy())
    if card.doubt:
        classes = len(card.labels)
        doubts = logits[:, classes:]
        logits = torch.cat([probabilities(logits[:, :classes], card), doubts], 1)
        return list(logits.tolist())
    compute = grade_probabilities if card.head == "grade" else probabilities
    rows: list[Any] = compute(logits, card).tolist()
    return rows


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


def grades(rows: list[list[float]], head: Head, lang: Lang) -> list[Grade]:
    """The most probable grade of each condition, in the catalog's order; of equals the milder.

    Shapes: rows: a list of `grades` floats for each of the head's labels
    """
    found = []
    for label, row in zip(head.labels, rows, strict=True):
        grade = row.index(max(row))
        found.append(
            Grade(
                condition=label.code,
                name=label.name(lang),
                grade=int(head.grades[grade].code),
                grade_name=head.grades[grade].name(lang),
                probabilities=row,
            )
        )
    return found
