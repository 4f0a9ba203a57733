"""Training a classifier: one label per picture."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from shared.cards import Metrics, ModelCard
from shared.heads import probabilities
from shared.networks import Network, for_inference
from training.calibrate import temperature, thresholds
from training.forward import predict
from training.metrics import Array, Labels, calibration_error, card_metrics, figures
from training.objective import Held, Objective
from training.samples import Sample

Evidence = tuple[Array, Labels]  # logits (N, C), truth (N,)


def labels_of(samples: Sequence[Sample]) -> Labels:
    return np.array([sample.label for sample in samples], dtype=np.int64)


class Classify(Objective):
    """Cross-entropy, with what is rare drawn more often and weighed more."""

    adjustment: Tensor  # (classes,) added to the logits in training only
    weights: Tensor | None = None  # (classes,) of the loss

    def truth(self, samples: Sequence[Sample], size_px: int) -> Tensor:
        return torch.from_numpy(labels_of(samples))

    def start(self, truth: Tensor) -> None:
        counts = torch.bincount(truth, minlength=len(self.head.labels)).float()
        sampled = counts ** (1 - self.config.sampling_power)
        adjustment = self.config.logit_adjustment * (sampled / sampled.sum()).clamp_min(1e-6).log()
        self.adjustment = adjustment.to(self.device)
        if self.config.class_weights == "balanced":
            self.weights = (counts.sum() / (len(counts) * counts.clamp_min(1))).to(self.device)

    def sampling(self, truth: Tensor) -> Tensor | None:
        """Class frequencies to the power 1 - sampling_power; at 0 each picture once an epoch."""
        if not self.config.sampling_power:
            return None
        return torch.bincount(truth).float()[truth] ** -self.config.sampling_power

    def target(self, truth: Tensor) -> Tensor:
        return F.one_hot(truth, len(self.head.labels)).float()

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(
            logits + self.adjustment,
            target,
            weight=self.weights,
            label_smoothing=self.config.label_smoothing,
        )

    def validate(self, network: Network, held: Held) -> dict[str, float]:
        logits, truth = self.evidence(network, held)
        scaled = torch.softmax(torch.from_numpy(logits) / temperature(logits, truth), dim=1).numpy()
        found = figures(truth, scaled, np.full(scaled.shape[1], 0.5))
        names = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc")
        return {name: found[name] for name in names} | {"calibration_error": calibration_error(truth, scaled)}

    def card_fields(self) -> dict[str, Any]:
        return {"thresholds": {label.code: 0.5 for label in self.head.labels}}

    def evidence(self, network: Network, held: Held) -> Evidence:
        logits = self._logits(network, held)
        return logits.double().numpy(), labels_of(held.samples)

    def _logits(self, network: Network, held: Held, dtype: torch.dtype = torch.float32) -> Tensor:
        return predict(network, held.pictures, self.preprocess, 64, self.device, dtype)

    def calibrated(self, card: ModelCard, evidence: Sequence[Evidence]) -> ModelCard:
        logits = np.concatenate([one[0] for one in evidence])
        truth = np.concatenate([one[1] for one in evidence])
        card = card.model_copy(update={"temperature": round(temperature(logits, truth), 4)})
        exact = probabilities(torch.from_numpy(logits), card).double().numpy()
        return card.model_copy(update={"thresholds": thresholds(self.head.labels, exact, truth)})

    def deviation(self, card: ModelCard, network: Network, held: Held) -> float:
        coarse = for_inference(network, self.device, torch.bfloat16)
        rounded = probabilities(self._logits(coarse, held, torch.bfloat16), card)
        return float((rounded - probabilities(self._logits(network, held), card)).abs().max())

    def outcome(self, card: ModelCard, network: Network, held: Held) -> Array:
        values: Array = probabilities(self._logits(network, held), card).double().numpy()
        return values

    def metrics(self, card: ModelCard, split: str, samples: Sequence[Sample], outcome: Array) -> Metrics:
        groups = [sample.group for sample in samples]
        return card_metrics(split, card.labels, groups, labels_of(samples), outcome, card.thresholds)
