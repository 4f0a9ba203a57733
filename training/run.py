"""The parts that every run is made of: fitting a network, its card, and what explains both later."""

import importlib.metadata
import json
import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from rich.console import Console

from shared.cards import ModelCard, save_card, sha256_of
from shared.catalog import Head
from shared.networks import WEIGHTS, build_network, save_weights
from training import checkpoint
from training.config import TrainConfig
from training.kinds import objective_for
from training.loop import Feed, Trainer
from training.objective import Held, Objective
from training.pretrained import load_pretrained
from training.samples import BadData, Sample, write_split


@dataclass(frozen=True)
class Run:
    """What every part of a run needs."""

    config: TrainConfig
    head: Head
    folder: Path
    identity: str  # of configuration and data
    fabric: Fabric
    console: Console

    def objective(self) -> Objective:
        return objective_for(self.head, self.config.preprocess(), self.fabric.device, self.config)


def fit(
    run: Run, objective: Objective, feed: Feed, held: Held, folder: Path, out: Path
) -> list[dict[str, Any]]:
    """Train a fresh network and write its weights to `out`; returns the history of its epochs."""
    torch.manual_seed(run.config.seed)
    network = build_network(
        run.config.architecture, run.head, drop=run.config.drop, drop_path=run.config.drop_path
    )
    if run.config.pretrained:
        load_pretrained(network, run.config.pretrained)
    objective.start(feed.truth)
    try:
        trainer = Trainer(run.config, network, objective, feed, run.fabric)
    except ValueError as error:
        raise BadData(str(error)) from None
    kept = trainer.fit(
        lambda average: objective.validate(average, held),
        lambda row: run.console.print(json.dumps(row)),
        folder,
        run.identity,
    )
    if run.fabric.is_global_zero:
        out.mkdir(parents=True, exist_ok=True)
        save_weights(kept, out / WEIGHTS, torch.float16)
        lines = "".join(json.dumps(row) + "\n" for row in trainer.at.history)
        (folder / "history.jsonl").write_text(lines, encoding="utf-8")
    run.fabric.barrier()
    return trainer.at.history


def write_run(run: Run, samples: list[Sample]) -> None:
    """What explains the weights later: the configuration, and which group stood where."""
    if run.fabric.is_global_zero:
        run.folder.mkdir(parents=True, exist_ok=True)
        write_split(samples, run.folder / "split.csv")
        (run.folder / "config.json").write_text(run.config.model_dump_json(indent=1), encoding="utf-8")


def card_of(
    run: Run, objective: Objective, out: Path, history: list[dict[str, Any]], started: float
) -> ModelCard:
    return ModelCard(
        name=run.head.weights,
        version=datetime.now(UTC).strftime("%Y%m%d.%H%M"),
        head=run.head.kind,
        architecture=run.config.architecture,
        preprocess=run.config.preprocess(),
        labels=tuple(label.code for label in run.head.labels),
        **objective.card_fields(),
        temperature=1.0,
        largest_microbatch=32,
        data=run.config.data,
        licence=run.config.licence,
        training={
            "config": run.config.model_dump(mode="json", exclude={"data", "licence"}),
            "torch": importlib.metadata.version("torch"),
            "minutes": math.ceil((time.monotonic() - started) / 60),
            "history": history,
        },
        weights_dtype="float16",
        sha256=sha256_of(out / WEIGHTS),
    )


def finish(
    run: Run,
    objective: Objective,
    card: ModelCard,
    split: str,
    samples: list[Sample],
    outcome: Any,
    out: Path,
) -> ModelCard:
    """Measure, write the card, and keep what every picture got for the report."""
    card = card.model_copy(update={"metrics": objective.metrics(card, split, samples, outcome)})
    save_outcome(run.folder, split, samples, outcome)
    save_card(card, out)
    save_card(card, run.folder)
    checkpoint.clear(run.folder)  # not before: a kill while measuring must not cost the epochs
    return card


def save_outcome(folder: Path, split: str, samples: list[Sample], outcome: Any) -> None:
    """What the network said of every picture of a split: `outcome` as its kind of head has it."""
    ids, groups = [sample.id for sample in samples], [sample.group for sample in samples]
    np.savez_compressed(folder / f"{split}.npz", outcome=outcome, id=ids, group=groups)
