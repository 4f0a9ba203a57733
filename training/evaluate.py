"""Print a card's figures again from its weights, and each picture's findings if asked.

python -m training.evaluate --pipeline skin --data ../shared/data/skin --split test
"""

import argparse
import csv
import json
import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from shared.cards import Metrics, ModelCard, load_card
from shared.catalog import PIPELINES
from shared.errors import CardMismatch
from shared.heads import probabilities
from shared.networks import load_network
from training.data import SPLITS, BadData, Sample, labels_of, load_pictures, read_ham10000
from training.forward import predict
from training.metrics import SUMMARY, card_metrics


def main(arguments: list[str] | None = None) -> None:
    root = Path(__file__).parents[1]
    parser = argparse.ArgumentParser(prog="training.evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("--pipeline", required=True, choices=sorted(PIPELINES))
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--split", default="test", choices=SPLITS)
    parser.add_argument("--model", type=Path, help="folder of card and weights; default: the shipped one")
    parser.add_argument("--out", type=Path, help="also write every picture's probabilities to this csv")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args(arguments)
    folder = options.model or root / "workers/models" / options.pipeline
    try:
        card = load_card(folder)
        head = PIPELINES[options.pipeline].heads[0]
        samples = [s for s in read_ham10000(options.data, head.labels) if s.split == options.split]
        values = evaluate(card, folder, samples)
    except (BadData, CardMismatch) as error:
        sys.exit(f"Cannot evaluate {options.pipeline}:\n{error}")
    found = card_metrics(
        options.split,
        card.labels,
        [sample.group for sample in samples],
        labels_of(samples),
        values.double().numpy(),
        card.thresholds,
    )
    if options.out:
        write_probabilities(options.out, card, samples, values)
    if options.json:
        print(json.dumps(found.model_dump(mode="json")))
    else:
        show(card, found, Console())


def evaluate(card: ModelCard, folder: Path, samples: list[Sample]) -> torch.Tensor:
    """Calibrated probabilities of every sample, in float32.

    Shapes: N samples -> (N, C) float32
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = load_network(card, PIPELINES[card.name].heads[0], folder).to(device)
    pictures = load_pictures([s.copies[0] for s in samples], card.preprocess.size_px, "reading")
    return probabilities(predict(network, pictures, card.preprocess, 64, device), card)


def write_probabilities(path: Path, card: ModelCard, samples: list[Sample], values: torch.Tensor) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image_id", "lesion_id", "label", *card.labels])
        for sample, row in zip(samples, values.tolist(), strict=True):
            writer.writerow(
                [sample.id, sample.group, card.labels[sample.label], *(f"{value:.6f}" for value in row)]
            )


def show(card: ModelCard, found: Metrics, console: Console) -> None:
    console.print(
        f"{card.name} {card.version} on {found.split}: {found.images} pictures of {found.lesions} lesions; "
        "95 % intervals over lesions"
    )
    summary = Table("figure", "value", "95 % interval")
    for name in SUMMARY:
        figure = getattr(found, name)
        summary.add_row(name, f"{figure.value:.3f}", f"{figure.low:.3f} to {figure.high:.3f}")
    console.print(summary)
    labels = Table("label", "pictures", "threshold", "sensitivity", "specificity", *card.labels)
    for code, row in zip(card.labels, found.confusion, strict=True):
        figure = found.labels[code]
        labels.add_row(
            code,
            str(figure.support),
            f"{card.thresholds[code]:.3f}",
            f"{figure.sensitivity.value:.3f} ({figure.sensitivity.low:.3f}-{figure.sensitivity.high:.3f})",
            f"{figure.specificity.value:.3f} ({figure.specificity.low:.3f}-{figure.specificity.high:.3f})",
            *map(str, row),
        )
    console.print(labels)
    console.print(
        "The columns named after labels are the confusion matrix: rows are truth, columns the top label."
    )


if __name__ == "__main__":
    main()
