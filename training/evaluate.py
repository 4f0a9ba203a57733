"""Print a card's figures again from its weights, and each picture's findings if asked.

python -m training.evaluate --pipeline skin --data ../shared/data/skin --split test
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from shared.cards import GradeMetrics, Interval, Metrics, ModelCard, SegmentMetrics, load_card
from shared.catalog import PIPELINES
from shared.errors import CardMismatch
from shared.networks import load_network
from training.config import shipped
from training.feeding import load_held
from training.importers import read_data
from training.kinds import objective_for
from training.known import compared, known_of_samples
from training.metrics import GRADE_SUMMARY, MASK_SUMMARY, SUMMARY
from training.objective import Objective
from training.samples import SPLITS, BadData, Sample


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="training.evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("--pipeline", required=True, choices=sorted(PIPELINES))
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--split", default="test", choices=SPLITS)
    parser.add_argument("--model", type=Path, help="folder of card and weights; default: the shipped one")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args(arguments)
    try:
        folder = options.model or shipped(PIPELINES[options.pipeline])
        card = load_card(folder)
        card = evaluated(card, folder, options.pipeline, options.data, options.split)
    except (BadData, CardMismatch) as error:
        sys.exit(f"Cannot evaluate {options.pipeline}:\n{error}")
    if options.json:
        print(json.dumps(_figures(card)))
    else:
        show(card, Console())


def _figures(card: ModelCard) -> dict[str, Any]:
    """The figures of pictures alone and, under `clinical`, those with what else is known."""
    assert card.metrics
    found = card.metrics.model_dump(mode="json")
    if card.clinical:
        found["clinical"] = card.clinical.model_dump(mode="json", include={"metrics", "difference"})
    return found


def evaluated(card: ModelCard, folder: Path, pipeline: str, data: Path, split: str) -> ModelCard:
    """The card with the figures of a split, in float32.

    Raises: BadData, CardMismatch
    """
    samples = [sample for sample in read_data(data, PIPELINES[pipeline]) if sample.split == split]
    if not samples:
        raise BadData(f"No picture is in {split}.")
    known = known_of_samples(samples, PIPELINES[pipeline]) if card.clinical else []
    objective, outcome = outcome_of(card, folder, pipeline, samples)
    update: dict[str, Any] = {"metrics": objective.metrics(card, split, samples, outcome)}
    if card.clinical:
        update["clinical"] = compared(card, card.clinical, split, samples, outcome, known)
    return card.model_copy(update=update)


def outcome_of(
    card: ModelCard, folder: Path, pipeline: str, samples: Sequence[Sample]
) -> tuple[Objective, Any]:
    """What the shipped weights find in each picture, in float32 and without a worker.

    Shapes: the second is an array of (N, ...), as Objective.outcome says
    """
    head = PIPELINES[pipeline].heads[0]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = load_network(card, head, folder).to(device)
    objective = objective_for(head, card.preprocess, device)
    return objective, objective.outcome(card, network, load_held(samples, objective, "the pictures"))


def show(card: ModelCard, console: Console) -> None:
    """The card's figures as tables."""
    found = card.metrics
    if isinstance(found, Metrics):
        _title(card, found.split, found.images, found.lesions, console)
        _show_summary(found, console)
        _show_labels(card, found, console)
        if card.clinical and card.clinical.metrics:
            _show_clinical(card, found, card.clinical.metrics, card.clinical.difference, console)
    elif isinstance(found, SegmentMetrics):
        _title(card, found.split, found.images, found.groups, console)
        _show_masks(found, console)
    elif isinstance(found, GradeMetrics):
        _title(card, found.split, found.images, found.groups, console)
        _show_grades(found, console)


def _title(card: ModelCard, split: str, images: int, groups: int, console: Console) -> None:
    console.print(
        f"{card.name} {card.version} on {split}: {images} pictures of {groups} groups; "
        "95 % intervals over groups, such as lesions or patients"
    )


def in_words(figure: Interval | None, digits: int = 3) -> str:
    """Such as 0.779 (0.752 to 0.806)."""
    if figure is None:
        return "not defined"
    return f"{figure.value:.{digits}f} ({figure.low:.{digits}f} to {figure.high:.{digits}f})"


def _show_summary(found: Metrics, console: Console) -> None:
    summary = Table("figure", "value")
    for name in SUMMARY:
        summary.add_row(name, in_words(getattr(found, name)))
    console.print(summary)


def _show_clinical(
    card: ModelCard, alone: Metrics, known: Metrics, difference: dict[str, Interval], console: Console
) -> None:
    table = Table("figure", "picture alone", "with age, sex and site", "difference")
    for name in SUMMARY:
        figures = (getattr(alone, name), getattr(known, name), difference.get(name))
        table.add_row(name, *map(in_words, figures))
    console.print(table)
    _show_labels(card, known, console)


def _show_labels(card: ModelCard, found: Metrics, console: Console) -> None:
    labels = Table("label", "pictures", "threshold", "sensitivity", "specificity")
    for code, figure in found.labels.items():
        labels.add_row(
            code,
            str(figure.support),
            f"{card.thresholds[code]:.3f}",
            in_words(figure.sensitivity),
            in_words(figure.specificity),
        )
    console.print(labels)
    _show_confusion(card, found, console)


def _show_confusion(card: ModelCard, found: Metrics, console: Console) -> None:
    """In a table of its own: beside the other figures it does not fit into 80 columns."""
    table = Table("truth \\ top label", *card.labels)
    for code, row in zip(card.labels, found.confusion, strict=True):
        table.add_row(code, *map(str, row))
    console.print(table)


def _show_masks(found: SegmentMetrics, console: Console) -> None:
    summary = Table("figure", "value")
    for name in MASK_SUMMARY:
        summary.add_row(name, in_words(getattr(found, name)))
    console.print(summary)
    labels = Table("label", "pictures", "Dice", "IoU", "Hausdorff 95, pixels")
    for code, figure in found.labels.items():
        labels.add_row(
            code,
            str(figure.support),
            in_words(figure.dice),
            in_words(figure.iou),
            in_words(figure.hausdorff95_px, 1),
        )
    console.print(labels)


def _show_grades(found: GradeMetrics, console: Console) -> None:
    table = Table("condition", "pictures", *GRADE_SUMMARY)
    for code, figures in found.conditions.items():
        table.add_row(
            code, str(sum(figures.support)), *(in_words(getattr(figures, n)) for n in GRADE_SUMMARY)
        )
    console.print(table)


if __name__ == "__main__":
    main()
