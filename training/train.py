"""Train a pipeline's network: data, network, epochs, calibration, figures, card; reads top to bottom.

python -m training.train --pipeline skin --data ../shared/data/skin
"""

import argparse
import hashlib
import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.console import Console

from shared.cards import ModelCard, save_card
from shared.catalog import PIPELINES
from shared.networks import build_network, load_network
from training.clinical import teach
from training.config import TrainConfig, load_config, recipe_of, shipped
from training.crossvalidate import cross_validated
from training.evaluate import show
from training.feeding import gather, load_feed, load_held
from training.importers import read_data
from training.known import known_of_samples
from training.run import Run, card_of, finish, fit, write_run
from training.samples import SPLITS, BadData, Dealt, Sample, faults_of
from training.splitting import fifth_by_group, leaky_split

PRECISIONS: dict[str, Any] = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}
DEALS: dict[Dealt, Callable[[Sequence[Sample]], list[Sample]]] = {
    "table": list,
    "fifth_by_picture": leaky_split,
    "fifth_by_group": fifth_by_group,
}
ROOT = Path(__file__).parents[1]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="training.train", description=__doc__.splitlines()[0])
    parser.add_argument("--pipeline", required=True, choices=sorted(PIPELINES))
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--config", type=Path, help="default: the pipeline's in training/configs")
    parser.add_argument("--out", type=Path, help="for card and weights; default: as workers look for them")
    parser.add_argument(
        "--run-folder", type=Path, help="for split, history and checkpoint; default: runs/PIPELINE"
    )
    parser.add_argument("--devices", type=int, default=1, help="processes on this machine, under torchrun")
    parser.add_argument("--nodes", type=int, default=1, help="machines, under torchrun")
    options = parser.parse_args(arguments)
    try:
        pipeline = PIPELINES[options.pipeline]
        config = load_config(options.config or recipe_of(pipeline), pipeline.name)
        if config.pipeline != pipeline.name:
            raise BadData(f"The configuration is for {config.pipeline}.")
        fabric = make_fabric(config, options.devices, options.nodes)
        out = options.out or shipped(pipeline)
        train(config, options.data, out, options.run_folder or ROOT / "runs" / options.pipeline, fabric)
    except BadData as error:
        sys.exit(f"Cannot train {options.pipeline}:\n{error}")


def make_fabric(config: TrainConfig, devices: int = 1, nodes: int = 1) -> Fabric:
    """The engine: one process, or as many as torchrun started."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    fabric = Fabric(
        accelerator="cuda" if torch.cuda.is_available() else "cpu",
        devices=devices,
        num_nodes=nodes,
        strategy="ddp" if devices * nodes > 1 else "auto",
        precision=PRECISIONS[config.precision],
    )
    fabric.launch()
    return fabric


def train(
    config: TrainConfig, data: Path, out: Path, folder: Path | None = None, fabric: Fabric | None = None
) -> ModelCard:
    """Train, calibrate on `val`, measure on `test`, write card and weights to `out`.

    `folder` keeps what explains the run: configuration, split, history and, until it ends, a checkpoint.

    Raises: BadData before the first epoch, with everything that is wrong
    """
    started = time.monotonic()
    fabric = fabric or make_fabric(config)
    folder = folder or out / "run"
    head = PIPELINES[config.pipeline].heads[0]
    samples = read_samples(config, data)
    run = Run(
        config, head, folder, _identity(config, samples), fabric, Console(quiet=not fabric.is_global_zero)
    )
    _check_network(run)
    make = cross_validated if config.folds else _split
    card = make(run, samples, out, started)
    if not fabric.is_global_zero:
        return card
    if config.clinical:
        card = teach(out, samples, PIPELINES[config.pipeline])
        save_card(card, folder)
    show(card, run.console)
    return card


def read_samples(config: TrainConfig, data: Path) -> list[Sample]:
    """The pipeline's samples as its importer finds them, dealt anew where the configuration says so.

    Raises: BadData
    """
    return DEALS[config.dealt](read_data(data, PIPELINES[config.pipeline]))


def _split(run: Run, samples: list[Sample], out: Path, started: float) -> ModelCard:
    """One run over the table's split."""
    faults = faults_of(samples, run.head, run.config.dealt)
    if run.config.clinical:
        faults += _clinical_faults(run, samples)
    train_set, val, test = ([s for s in samples if s.split == name] for name in SPLITS)
    objective = run.objective()
    feed, held, tested = gather(
        lambda: load_feed(train_set, run.config, objective),
        lambda: load_held(val, objective, "val"),
        lambda: load_held(test, objective, "test"),
        faults=faults,
    )
    write_run(run, samples)
    history = fit(run, objective, feed, held, run.folder, out)
    card = card_of(run, objective, out, history, started)
    if not run.fabric.is_global_zero:
        return card
    network = load_network(card, run.head, out).to(run.fabric.device)
    card = objective.calibrated(card, [objective.evidence(network, held)])
    card = card.model_copy(update={"bfloat16_deviation": round(objective.deviation(card, network, held), 4)})
    return finish(run, objective, card, "test", test, objective.outcome(card, network, tested), out)


def _clinical_faults(run: Run, samples: list[Sample]) -> list[str]:
    if run.head.kind != "classify":
        return [f"clinical data is for classify heads, and {run.head.weights} is a {run.head.kind} head"]
    try:
        known_of_samples(samples, PIPELINES[run.config.pipeline])
    except BadData as error:
        return error.faults
    return []


def _check_network(run: Run) -> None:
    """Refuse a network that cannot be built before an hour is spent on reading pictures."""
    try:
        build_network(run.config.architecture, run.head)
    except ValueError as error:
        raise BadData(str(error)) from None


def _identity(config: TrainConfig, samples: list[Sample]) -> str:
    told = hashlib.sha256(config.model_dump_json().encode())
    for sample in samples:
        told.update(f"{sample.id}\t{sample.group}\t{sample.split}\n".encode())
    return told.hexdigest()


if __name__ == "__main__":
    main()
