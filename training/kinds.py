"""Which objective trains which kind of head."""

import torch

from shared.cards import Preprocess
from shared.catalog import Head, HeadKind
from training.classify import Classify
from training.config import TrainConfig
from training.grade import Grade
from training.objective import Objective
from training.segment import Segment

KINDS: dict[HeadKind, type[Objective]] = {"classify": Classify, "grade": Grade, "segment": Segment}


def objective_for(
    head: Head, preprocess: Preprocess, device: torch.device, config: TrainConfig | None = None
) -> Objective:
    return KINDS[head.kind](head, preprocess, device, config)
