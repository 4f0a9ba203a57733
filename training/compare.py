"""Several runs side by side, and what is certain of their differences."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from shared.cards import GradeMetrics, Interval, Metrics, SegmentMetrics
from training import metrics
from training.classify import labels_of
from training.finished import Finished
from training.kinds import objective_for
from training.metrics import Labels, bootstrap, intervals, mask_figures
from training.samples import Sample

NAMED = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc", "calibration_error")
DRAWN = ("mean_dice", "mean_iou", "thresholded_jaccard")


@dataclass(frozen=True)
class Leak:
    """One figure of one network, trained on the leaky split and on a grouped one."""

    network: str
    figure: str
    pictures: str  # which part of those that were measured
    leaky: Interval
    grouped: Interval

    @property
    def alike(self) -> bool:
        """Whether both were measured on the same kind of pictures, so that the difference means something."""
        return self.pictures != UNSEEN


UNSEEN = "without a sibling in train"
# A leak can help only with groups of several pictures; those of one are the control.
PARTS: dict[str, Callable[[Finished], NDArray[np.bool_]]] = {
    "whose group has several": lambda run: run.several,
    "whose group has one": lambda run: ~run.several,
    UNSEEN: lambda run: ~run.sibling,
}


def columns(run: Finished) -> dict[str, Interval]:
    """The figures by which runs of this kind are compared; of graders the kappa of each condition."""
    assert run.card.metrics
    return columns_of(run.card.metrics)


def columns_of(found: Metrics | GradeMetrics | SegmentMetrics) -> dict[str, Interval]:
    if isinstance(found, Metrics):
        return {name: getattr(found, name) for name in NAMED}
    if isinstance(found, SegmentMetrics):
        return {name: getattr(found, name) for name in DRAWN}
    return {f"kappa {code}": one.quadratic_kappa for code, one in found.conditions.items()}


def network_of(run: Finished) -> str:
    inner = run.config.options.get("encoder_name")
    return f"{run.config.network} of {str(inner).removeprefix('tu-')}" if inner else run.config.network


def split_of(run: Finished) -> str:
    """How the pictures were dealt, in words."""
    if run.config.leaky:
        return "by picture (leaky)"
    return f"{run.config.folds} folds by group" if run.config.folds else "by group"


def leaks_of(runs: Sequence[Finished], data: Path) -> list[Leak]:
    """For each network that has both: the first leaky and the first grouped run, on all pictures and by part.

    Raises: BadData if the data is not what they were measured on
    """
    found = []
    for network in dict.fromkeys(network_of(run) for run in runs):
        same = [run for run in runs if network_of(run) == network]
        leaky = next((run for run in same if run.config.leaky), None)
        grouped = next((run for run in same if not run.config.leaky), None)
        if leaky and grouped:
            pair = by_part(leaky, leaky.samples(data)), by_part(grouped, grouped.samples(data))
            found += [
                Leak(network, name, part, one, pair[1][part][name])
                for part, figures in pair[0].items()
                for name, one in figures.items()
                if name in pair[1].get(part, {})
            ]
    return found


def by_part(run: Finished, samples: Sequence[Sample]) -> dict[str, dict[str, Interval]]:
    """The figures by which runs are compared, of all pictures and of each part that is not empty."""
    looking = objective_for(run.head, run.card.preprocess, torch.device("cpu"))
    found = {"all": columns(run)}
    for part, within in PARTS.items():
        rows = np.flatnonzero(within(run)).tolist()
        if rows:
            chosen = [samples[row] for row in rows]
            found[part] = columns_of(looking.metrics(run.card, run.split, chosen, run.outcome[rows]))
    return found


def difference(run: Finished, other: Finished, samples: Sequence[Sample]) -> dict[str, Interval] | None:
    """The other's figures minus this run's, with paired bootstrap intervals over groups.

    None where the two were not measured on the same pictures, or have no figures that can be paired.
    """
    if set(run.ids) != set(other.ids) or run.head.kind != other.head.kind or run.head.kind == "grade":
        return None
    place = {name: row for row, name in enumerate(other.ids)}
    theirs = other.outcome[[place[name] for name in run.ids]]
    groups = list(run.groups)
    if run.head.kind == "classify":
        return metrics.paired_difference(groups, labels_of(samples), run.outcome, theirs, NAMED)

    def moved(rows: Labels) -> metrics.Figures:
        before, after = mask_figures(run.outcome[rows]), mask_figures(theirs[rows])
        return {name: after[name] - before[name] for name in DRAWN}

    bounds = bootstrap(groups, moved, draws=metrics.DRAWS)
    return intervals(moved(np.arange(len(groups))), bounds)


def verdict(name: str, change: Interval) -> str:
    """Whether the other run is better; only an interval without 0 shows it."""
    if change.low <= 0 <= change.high:
        return "not shown"
    return "better" if (change.value > 0) != (name == "calibration_error") else "worse"
