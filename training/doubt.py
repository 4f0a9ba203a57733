"""Teach a trained classifier to doubt: fit on `train`, limits from `val`, measured on `test` and foreign pictures.

python -m training.doubt --pipeline skin --data ../shared/data/skin --foreign ../shared/data/xray/chest/images
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score
from torch import Tensor

from shared.cards import Doubt, Interval, Preprocess, load_card, save_card
from shared.catalog import PIPELINES, Head
from shared.doubt import Familiar, Seen, quality, save_familiar, warnings
from shared.errors import CardMismatch
from shared.images import Limits, inspect
from shared.networks import Classifier, load_network
from shared.preprocess import normalise, to_tensor
from training import agreement
from training.config import shipped
from training.foreign import Foreign, foreign_pictures
from training.importers import read_data
from training.pictures import load_pictures
from training.samples import SPLITS, Archives, BadData, Sample

Array = NDArray[np.float64]

AXES = (16, 32, 64, 128)  # how many are tried
USUAL = 0.97  # of `val` lies within the distance that counts as 1
EXTREME = 0.003  # of `val` lies beyond each limit of quality
RESAMPLED = 1_000
MICROBATCH = 64


@dataclass(frozen=True)
class Looked:
    """What the network and the camera say of pictures, before anything is fitted."""

    pooled: Tensor  # (N, features)
    quality: Tensor  # (N, 3)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="training.doubt", description=__doc__.splitlines()[0])
    parser.add_argument("--pipeline", required=True, choices=sorted(PIPELINES))
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--foreign", nargs="*", type=Path, default=[], help="folders of other pictures")
    parser.add_argument("--copies", type=Path, help="zip or folder of the same pictures in another size")
    parser.add_argument("--model", type=Path, help="folder of card and weights; default: the shipped one")
    options = parser.parse_args(arguments)
    pipeline = PIPELINES[options.pipeline]
    folder = options.model or shipped(pipeline)
    try:
        samples = read_data(options.data, pipeline)
        console, head = Console(), pipeline.heads[0]
        show(teach(folder, head, samples, foreign_pictures(options.foreign)), console)
        if options.copies:
            agreement.show(agreement.agree(folder, head, samples, options.copies), console)
    except (BadData, CardMismatch) as error:
        sys.exit(f"Cannot teach {options.pipeline} to doubt:\n{error}")


def teach(folder: Path, head: Head, samples: list[Sample], foreign: list[Foreign]) -> Doubt:
    """Fit, choose, measure; writes the numbers beside the weights, and the card.

    Half of the foreign pictures choose how many axes are kept, the other half are reported.
    """
    card = load_card(folder)
    network = load_network(card, head, folder)
    if card.head != "classify" or not isinstance(network, Classifier):
        raise BadData("only a classify head can be taught to doubt")
    known = {split: _look_at_split(network, card.preprocess, samples, split) for split in SPLITS}
    tuning = halves(foreign)
    strange = [
        look(network, card.preprocess, _tensors(foreign, card.preprocess, tuning == chosen))
        for chosen in (True, False)
    ]
    axes = [count for count in AXES if count < min(known["train"].pooled.shape)]
    fitted = [fit(known["train"].pooled, known["val"].pooled, count) for count in axes]
    best = max(fitted, key=lambda one: area(one(known["val"].pooled), one(strange[0].pooled)))
    kinds = [one.kind for one, tunes in zip(foreign, tuning, strict=True) if not tunes]
    sides = _least_side_px(samples)
    doubt = measured(best, save_familiar(best, folder), known, strange[1], kinds, sides)
    save_card(card.model_copy(update={"doubt": doubt}), folder)
    return doubt


@torch.inference_mode()
def look(network: Classifier, preprocess: Preprocess, pictures: Tensor) -> Looked:
    """Shapes: pictures (N, 3, S, S) uint8"""
    pooled, seen = [], []
    for chunk in pictures.split(MICROBATCH):
        batch = normalise(chunk, preprocess, torch.float32)
        pooled.append(network.pooled(batch))
        seen.append(quality(batch, preprocess))
    return Looked(torch.cat(pooled), torch.cat(seen))


def _look_at_split(network: Classifier, preprocess: Preprocess, samples: list[Sample], split: str) -> Looked:
    copies = [sample.copies[0] for sample in samples if sample.split == split]
    pictures = load_pictures(copies, preprocess, f"reading {split}")
    return look(network, preprocess, pictures)


def _least_side_px(samples: list[Sample]) -> int:
    """The shorter side of the smallest picture of `val`: nothing smaller was ever looked at to choose a limit."""
    copies = [sample.copies[0] for sample in samples if sample.split == "val"]
    with Archives() as archives:
        facts = [inspect(copy.read(archives), Limits()) for copy in copies]
    return min(min(one.width, one.height) for one in facts)


def _tensors(foreign: Sequence[Foreign], preprocess: Preprocess, chosen: NDArray[np.bool_]) -> Tensor:
    return torch.stack(
        [to_tensor(one.pixels, preprocess) for one, wanted in zip(foreign, chosen, strict=True) if wanted]
    )


def halves(foreign: Sequence[Foreign]) -> NDArray[np.bool_]:
    """True for pictures to tune on: every second source of each kind, so that no source is in both halves."""
    order: dict[str, dict[str, int]] = {}
    for one in foreign:
        order.setdefault(one.kind, {}).setdefault(one.source, len(order[one.kind]))
    return np.array([order[one.kind][one.source] % 2 == 0 for one in foreign])


@torch.inference_mode()
def fit(train: Tensor, val: Tensor, axes: int) -> Familiar:
    """The axes along which `train` varies most, and the distance within which `val` usually lies.

    Shapes: train, val (N, features)
    """
    familiar = Familiar(train.shape[1], axes)
    familiar.mean.copy_(train.mean(0))
    centred = train - familiar.mean
    values, directions = torch.linalg.eigh(centred.T @ centred / len(centred))
    familiar.deviations.copy_(values[-axes:].clamp_min(1e-12).sqrt())
    # Rounded as they will be stored, so that what is measured is what is served.
    familiar.axes.copy_((directions.T[-axes:] / familiar.deviations[:, None]).half().float())
    familiar.rest.copy_(values[:-axes].clamp_min(0).sum().clamp_min(1e-12).sqrt())
    familiar.limit.copy_(torch.quantile(familiar(val), USUAL))
    return familiar


def area(usual: Tensor, strange: Tensor) -> float:
    """How often a foreign picture is further away than one of ours (area under the ROC curve)."""
    truth = np.r_[np.zeros(len(usual)), np.ones(len(strange))]
    return float(roc_auc_score(truth, torch.cat([usual, strange]).numpy()))


def measured(
    familiar: Familiar,
    sha256: str,
    known: dict[str, Looked],
    strange: Looked,
    kinds: Sequence[str],
    least_side_px: int,
) -> Doubt:
    """Limits from `val`; figures of `test` against the foreign pictures that nothing was tuned on."""
    with torch.inference_mode():
        away, usual = familiar(strange.pooled), familiar(known["test"].pooled)
    low, high = np.quantile(known["val"].quality.numpy(), (EXTREME, 1 - EXTREME), axis=0)
    doubt = Doubt(
        sha256=sha256,
        least_sharpness=round(float(low[0]), 4),
        least_brightness=round(float(low[1]), 4),
        greatest_brightness=round(float(high[1]), 4),
        least_contrast=round(float(low[2]), 4),
        least_side_px=least_side_px,
        foreign=len(away),
        auroc=_interval(usual, away),
        auroc_by_kind={
            kind: round(area(usual, away[[k == kind for k in kinds]]), 4) for kind in sorted(set(kinds))
        },
        flagged={},
    )
    looked = {"val": known["val"], "test": known["test"], "foreign": strange}
    shares = {name: flagged(familiar, one, doubt) for name, one in looked.items()}
    return doubt.model_copy(update={"flagged": shares})


def flagged(familiar: Familiar, looked: Looked, doubt: Doubt) -> dict[str, float]:
    """The share of pictures that get each warning, and that get any."""
    with torch.inference_mode():
        rows = torch.cat([familiar(looked.pooled)[:, None], looked.quality], 1).tolist()
    said = [{one.code for one in warnings(Seen(*row), doubt, doubt.least_side_px)} for row in rows]
    shares = {code: sum(code in codes for codes in said) for code in ("out_of_distribution", "low_quality")}
    shares["any"] = sum(bool(codes) for codes in said)
    return {name: round(count / len(said), 4) for name, count in shares.items()}


def _interval(usual: Tensor, strange: Tensor) -> Interval:
    random = np.random.default_rng(0)
    areas = [
        area(
            usual[random.integers(len(usual), size=len(usual))],
            strange[random.integers(len(strange), size=len(strange))],
        )
        for _ in range(RESAMPLED)
    ]
    low, high = np.quantile(areas, (0.025, 0.975))
    return Interval(
        value=round(area(usual, strange), 4), low=round(float(low), 4), high=round(float(high), 4)
    )


def show(doubt: Doubt, console: Console) -> None:
    found = doubt.auroc
    console.print(
        f"{doubt.foreign} foreign pictures against test: AUROC {found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
    )
    table = Table("pictures", "out_of_distribution", "low_quality", "any")
    for name, shares in doubt.flagged.items():
        table.add_row(name, *(f"{100 * share:.1f} %" for share in shares.values()))
    console.print(table)
    for kind, value in doubt.auroc_by_kind.items():
        console.print(f"  {kind}: {value:.3f}")


if __name__ == "__main__":
    main()
