"""Training a grader: one grade for each of several conditions, in one pass."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from shared.cards import GradeMetrics, ModelCard
from shared.heads import grade_probabilities
from shared.networks import Network, for_inference
from training.calibrate import temperature
from training.forward import predict
from training.metrics import Array, Labels, grade_figures, grade_metrics
from training.objective import Held, Objective
from training.samples import Sample

Evidence = tuple[Array, Labels]  # logits (N x conditions, grades) and truth of the known grades


def grades_of(samples: Sequence[Sample]) -> Labels:
    return np.array([sample.grades for sample in samples], dtype=np.int64)


class Grade(Objective):
    """The mean of one cross-entropy per condition; a grade that nobody gave weighs nothing."""

    weights: Tensor | None = None  # (conditions, grades)

    def truth(self, samples: Sequence[Sample], size_px: int) -> Tensor:
        return torch.from_numpy(grades_of(samples))

    def start(self, truth: Tensor) -> None:
        if self.config.class_weights == "balanced":
            counts = self.target(truth).sum(dim=0)
            present = (counts > 0).sum(dim=1, keepdim=True)
            self.weights = (counts.sum(dim=1, keepdim=True) / (present * counts.clamp_min(1))).to(self.device)

    def target(self, truth: Tensor) -> Tensor:
        """Shapes: (N, conditions) -> (N, conditions, grades), all zero where the grade is unknown."""
        hot = F.one_hot(truth.clamp_min(0), len(self.head.grades)).float()
        return hot * (truth >= 0)[..., None]

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        separate = logits.view(len(logits), len(self.head.labels), len(self.head.grades))
        smooth, mass = self.config.label_smoothing, target.sum(dim=2, keepdim=True)
        wanted = target * (1 - smooth) + mass * smooth / target.shape[2]
        if self.weights is not None:
            wanted = wanted * self.weights
        return -(wanted * separate.log_softmax(dim=2)).sum() / mass.sum().clamp_min(1)

    def validate(self, network: Network, held: Held) -> dict[str, float]:
        shares = self._logits(network, held).softmax(dim=2).double().numpy()
        truth = grades_of(held.samples)
        rows = []
        for position in range(truth.shape[1]):
            known = truth[:, position] >= 0
            if known.any():
                rows.append(grade_figures(truth[known, position], shares[known, position]))
        names = ("balanced_accuracy", "macro_f1", "quadratic_kappa")
        return {name: float(np.mean([row[name] for row in rows])) for name in names}

    def _logits(self, network: Network, held: Held, dtype: torch.dtype = torch.float32) -> Tensor:
        """Shapes: -> (N, conditions, grades)"""
        logits = predict(network, held.pictures, self.preprocess, 64, self.device, dtype)
        return logits.view(len(logits), len(self.head.labels), len(self.head.grades))

    def card_fields(self) -> dict[str, Any]:
        return {"grades": tuple(grade.code for grade in self.head.grades)}

    def evidence(self, network: Network, held: Held) -> Evidence:
        logits, truth = self._logits(network, held).double().numpy(), grades_of(held.samples)
        return logits[truth >= 0], truth[truth >= 0]

    def calibrated(self, card: ModelCard, evidence: Sequence[Evidence]) -> ModelCard:
        """One temperature for all conditions."""
        logits, truth = (np.concatenate(parts) for parts in zip(*evidence, strict=True))
        return card.model_copy(update={"temperature": round(temperature(logits, truth), 4)})

    def deviation(self, card: ModelCard, network: Network, held: Held) -> float:
        coarse = for_inference(network, self.device, torch.bfloat16)
        pair = (self._logits(network, held), self._logits(coarse, held, torch.bfloat16))
        exact, rounded = (grade_probabilities(logits.flatten(1), card) for logits in pair)
        return float((rounded - exact).abs().max())

    def outcome(self, card: ModelCard, network: Network, held: Held) -> Array:
        values: Array = grade_probabilities(self._logits(network, held).flatten(1), card).double().numpy()
        return values

    def metrics(self, card: ModelCard, split: str, samples: Sequence[Sample], outcome: Array) -> GradeMetrics:
        groups = [sample.group for sample in samples]
        return grade_metrics(split, card.labels, groups, grades_of(samples), outcome)
