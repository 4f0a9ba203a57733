"""What differs between kinds of heads in training: truth, target, loss, figures. The loop is the same for all."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.cards import ModelCard, Preprocess
from shared.catalog import Head
from shared.networks import Network
from training.config import TrainConfig
from training.samples import Sample


@dataclass(frozen=True)
class Held:
    """Pictures of a split that is only looked at, at the size in which they are served."""

    samples: Sequence[Sample]
    pictures: Tensor  # (N, 3, S, S) uint8
    truth: Tensor  # (N, ...) integers

    def subset(self, rows: NDArray[np.int64]) -> "Held":
        chosen = torch.from_numpy(rows)
        return Held([self.samples[row] for row in rows], self.pictures[chosen], self.truth[chosen])


class Objective(ABC):
    """One kind of head. Evidence and outcome are each kind's own, and only handed back to it.

    Without a configuration it can only look: give outcomes and figures of a trained network.
    """

    def __init__(
        self, head: Head, preprocess: Preprocess, device: torch.device, config: TrainConfig | None = None
    ) -> None:
        self.head, self.preprocess, self.device, self._config = head, preprocess, device, config

    @property
    def config(self) -> TrainConfig:
        if self._config is None:
            raise ValueError("this objective was made to look at a network, not to train one")
        return self._config

    @abstractmethod
    def truth(self, samples: Sequence[Sample], size_px: int) -> Tensor:
        """Shapes: -> (N, ...) integers, one row per sample; masks at `size_px`

        Raises: BadData listing each truth that cannot be used
        """

    def sampling(self, truth: Tensor) -> Tensor | None:
        """How likely each sample is drawn, (N,) relative; None: each once an epoch."""
        return None

    @abstractmethod
    def start(self, truth: Tensor) -> None:
        """Learn from the training truth what the loss needs, such as how common each label is."""

    @abstractmethod
    def target(self, truth: Tensor) -> Tensor:
        """What the loss compares with; of a kind that can be blended, floats that sum to 1."""

    @abstractmethod
    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """A scalar, in float32."""

    @abstractmethod
    def validate(self, network: Network, held: Held) -> dict[str, float]:
        """An epoch's figures on `val`; higher is better for each that `keep_best` may name."""

    @abstractmethod
    def card_fields(self) -> dict[str, Any]:
        """The card's fields of this kind of head, before anything was measured."""

    @abstractmethod
    def evidence(self, network: Network, held: Held) -> Any:
        """What calibration needs of one network and the pictures that it did not see."""

    @abstractmethod
    def calibrated(self, card: ModelCard, evidence: Sequence[Any]) -> ModelCard:
        """The card with temperature and thresholds, from the evidence of one network or of one per fold."""

    @abstractmethod
    def deviation(self, card: ModelCard, network: Network, held: Held) -> float:
        """What bfloat16 changes; see the card's field of that name."""

    @abstractmethod
    def outcome(self, card: ModelCard, network: Network, held: Held) -> Any:
        """Shapes: -> an array of (N, ...), one row per sample, from which figures are computed."""

    @abstractmethod
    def metrics(self, card: ModelCard, split: str, samples: Sequence[Sample], outcome: Any) -> Any:
        """The card's figures, with intervals over groups."""
