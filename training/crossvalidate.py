"""Cross-validation: the figures of a data set that is too small to hold a part of it back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.torch import load_file

from shared.cards import ModelCard
from shared.networks import WEIGHTS, Network, build_network, load_network
from training import checkpoint
from training.feeding import gather, load_feed, load_held
from training.loop import Feed
from training.objective import Held, Objective
from training.run import Run, card_of, finish, fit, write_run
from training.samples import Sample, gaps, repeats
from training.splitting import folds_of


def cross_validated(run: Run, samples: list[Sample], out: Path, started: float) -> ModelCard:
    """One run per fold for the figures, then the network to ship, from all samples.

    The shipped network itself was never measured: its figures are those of its siblings, each on what it did
    not see.
    """
    samples = [replace(sample, split="train") for sample in samples]
    objective = run.objective()
    feed, held = gather(
        lambda: load_feed(samples, run.config, objective),
        lambda: load_held(samples, objective, "again at the served size"),
        faults=repeats(samples) + gaps(samples, run.head, splits=("train",)),
    )
    dealt = np.array(folds_of(samples, run.config.folds, run.config.seed))
    write_run(run, [replace(one, split=f"fold{fold}") for one, fold in zip(samples, dealt, strict=True)])
    parts = [np.flatnonzero(dealt == fold) for fold in range(run.config.folds)]
    siblings = []
    for fold, unseen in enumerate(parts):
        run.console.print(f"fold {fold + 1} of {run.config.folds}, {len(unseen)} pictures held out")
        seen = np.flatnonzero(dealt != fold)
        siblings.append(
            (_sibling(run, objective, feed.subset(seen), held.subset(unseen), fold), held.subset(unseen))
        )
    run.console.print("the network to ship, from all pictures")
    history = fit(run, objective, feed, held, run.folder, out)
    card = card_of(run, objective, out, history, started)
    if not run.fabric.is_global_zero:
        return card
    card = objective.calibrated(card, [objective.evidence(*pair) for pair in siblings])
    shipped = load_network(card, run.head, out).to(run.fabric.device)
    card = card.model_copy(update={"bfloat16_deviation": round(objective.deviation(card, shipped, held), 4)})
    outcome = np.concatenate([objective.outcome(card, *pair) for pair in siblings])
    return finish(
        run,
        objective,
        card,
        f"{run.config.folds}-fold",
        [samples[n] for n in np.concatenate(parts)],
        outcome,
        out,
    )


def _sibling(run: Run, objective: Objective, feed: Feed, held: Held, fold: int) -> Network:
    """The network of one fold, trained unless an earlier start of this run has done so."""
    folder = run.folder / f"fold{fold}"
    done = folder / "done"
    if not done.is_file() or done.read_text() != run.identity:
        fit(run, objective, feed, held, folder, folder)
        done.write_text(run.identity)
        checkpoint.clear(folder)
    network = build_network(run.config.architecture, run.head)
    network.load_state_dict({name: value.float() for name, value in load_file(folder / WEIGHTS).items()})
    return network.to(run.fabric.device).eval()
