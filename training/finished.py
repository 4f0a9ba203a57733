"""A finished run as its folder holds it: recipe, card, history, and what the network said of every picture."""

import csv
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from shared.cards import ModelCard, load_card
from shared.catalog import PIPELINES, Head
from shared.errors import CardMismatch
from training.config import TrainConfig
from training.metrics import Array
from training.samples import BadData, Sample
from training.train import read_samples

Epoch = dict[str, Any]  # its number, loss, learning rate, images/s and figures on `val`


@dataclass(frozen=True)
class Finished:
    """What a run left behind. Pictures and truth stay with the data set, and are found again by their ids."""

    folder: Path
    config: TrainConfig
    card: ModelCard
    history: tuple[Epoch, ...]  # of the network that is shipped
    folds: tuple[tuple[Epoch, ...], ...]  # of those that were measured, in a cross-validation
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    outcome: Array  # (N, ...), as the kind of head has it
    stood: dict[str, str]  # id -> split or fold
    sibling: NDArray[np.bool_]  # (N,) whether `train` has a picture of the same group
    several: NDArray[np.bool_]  # (N,) whether the data set has more pictures of the group anywhere

    @property
    def leaked(self) -> float:
        """Share of the measured pictures that have a sibling in `train`."""
        return float(self.sibling.mean())

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def head(self) -> Head:
        return PIPELINES[self.config.pipeline].heads[0]

    @property
    def split(self) -> str:
        assert self.card.metrics
        return self.card.metrics.split

    def samples(self, data: Path) -> list[Sample]:
        """The pictures that it was measured on, in the order of its outcome.

        Raises: BadData if the folder is not the data set that it was trained on
        """
        found = {one.id: one for one in read_samples(self.config, data) if self._measured(one)}
        strange = [
            name
            for name, group in zip(self.ids, self.groups, strict=True)
            if name not in found or found[name].group != group
        ]
        if strange:
            raise BadData(
                f"{data} is not what {self.folder} was measured on: it has no {strange[0]} as it was."
            )
        return [found[name] for name in self.ids]

    def _measured(self, sample: Sample) -> bool:
        return bool(self.config.folds) or sample.split == self.split


def read_run(folder: Path) -> Finished:
    """Raises: BadData if it is no run, or one that has not ended."""
    try:
        card = load_card(folder)
        config = TrainConfig.model_validate_json((folder / "config.json").read_bytes())
    except (CardMismatch, FileNotFoundError, ValidationError) as error:
        raise BadData(f"{folder} is no finished run: {getattr(error, 'detail', error)}") from None
    if card.metrics is None or config.pipeline not in PIPELINES:
        raise BadData(f"{folder} is no finished run of a pipeline of the catalogue.")
    with np.load(folder / f"{card.metrics.split}.npz") as kept:
        ids, groups, outcome = kept["id"].tolist(), kept["group"].tolist(), kept["outcome"]
    folds = [_history(folder / f"fold{number}") for number in range(config.folds)]
    dealt = _split(folder)
    trained = {row["group"] for row in dealt if row["split"] == "train"}
    sizes = Counter({row["id"]: row["group"] for row in dealt}.values())  # a held fifth stands in two splits
    return Finished(
        folder=folder.resolve(),
        config=config,
        card=card,
        history=_history(folder),
        folds=tuple(folds),
        ids=tuple(ids),
        groups=tuple(groups),
        outcome=outcome,
        stood={row["id"]: row["split"] for row in dealt},
        sibling=np.array([group in trained for group in groups]),
        several=np.array([sizes[group] > 1 for group in groups]),
    )


def _history(folder: Path) -> tuple[Epoch, ...]:
    lines = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
    return tuple(json.loads(line) for line in lines)


def _split(folder: Path) -> list[dict[str, str]]:
    with (folder / "split.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def kept_epoch(config: TrainConfig, history: Sequence[Epoch]) -> int:
    """Whose weights were kept: the best by `keep_best`, the first of equals, else the last."""
    if not config.keep_best:
        return int(history[-1]["epoch"])
    name = config.keep_best
    return int(max(history, key=lambda epoch: (epoch[name], -epoch["epoch"]))["epoch"])
