"""Samples to what an epoch draws from, and to what is only looked at."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from training.config import TrainConfig
from training.loop import Feed
from training.objective import Held, Objective
from training.pictures import load_pictures
from training.samples import BadData, Sample


def load_feed(samples: Sequence[Sample], config: TrainConfig, objective: Objective) -> Feed:
    """Every copy of every sample at `cache_px`.

    Raises: BadData listing each file that cannot be used
    """
    views = [(index, copy) for index, sample in enumerate(samples) for copy in sample.copies]
    preprocess = config.preprocess(config.cache_px)
    pictures, truth = gather(
        lambda: load_pictures([copy for _, copy in views], preprocess, "reading train"),
        lambda: objective.truth(samples, config.cache_px),
    )
    return Feed(pictures, torch.tensor([index for index, _ in views]), truth)


def load_held(samples: Sequence[Sample], objective: Objective, title: str) -> Held:
    """The best copy of every sample, as the worker would see it.

    Raises: BadData listing each file that cannot be used
    """
    copies = [sample.copies[0] for sample in samples]
    pictures, truth = gather(
        lambda: load_pictures(copies, objective.preprocess, f"reading {title}"),
        lambda: objective.truth(samples, objective.preprocess.size_px),
    )
    return Held(samples, pictures, truth)


def gather(*loads: Callable[[], Any], faults: Sequence[str] = ()) -> list[Any]:
    """What each step loads, or one BadData with the faults of all of them."""
    loaded, found = [], list(faults)
    for load in loads:
        try:
            loaded.append(load())
        except BadData as error:
            found += error.faults
    if found:
        raise BadData(found)
    return loaded
