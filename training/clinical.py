"""Teach a finished classifier what age, sex and site say beside the picture; its network stays as it is.

python -m training.clinical --pipeline skin --data ../shared/data/skin
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from shared import cards
from shared.cards import load_card, save_card
from shared.catalog import PIPELINES, Pipeline
from shared.clinical import Known, encoded
from shared.errors import CardMismatch
from training.classify import labels_of
from training.evaluate import outcome_of, show
from training.importers import read_data
from training.known import SEXES, compared, known_of_samples
from training.metrics import Array
from training.samples import SPLITS, BadData, Sample

AGES = (0.0, 15.0, 30.0, 45.0, 60.0, 75.0, 90.0)
LEFT_OUT = 0.3  # how likely each of age, sex and site is left out in training
STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0)  # that are tried
LEAST = 1e-30  # a share that float32 rounded to 0


class Split(NamedTuple):
    """One split, as far as evidence is learned from it."""

    samples: list[Sample]
    known: list[Known]
    shares: Array  # (N, labels), of pictures alone


def main(arguments: list[str] | None = None) -> None:
    root = Path(__file__).parents[1]
    parser = argparse.ArgumentParser(prog="training.clinical", description=__doc__.splitlines()[0])
    parser.add_argument("--pipeline", required=True, choices=sorted(PIPELINES))
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--model", type=Path, help="folder of card and weights; default: the shipped one")
    options = parser.parse_args(arguments)
    folder = options.model or root / "workers/models" / options.pipeline
    pipeline = PIPELINES[options.pipeline]
    try:
        show(teach(folder, read_data(options.data, pipeline), pipeline), Console())
    except (BadData, CardMismatch) as error:
        sys.exit(f"Cannot teach {options.pipeline} clinical data:\n{error}")


def teach(folder: Path, samples: Sequence[Sample], pipeline: Pipeline) -> cards.ModelCard:
    """Learn evidence from `train`, choose its strength on `val`, measure on `test`; writes the card.

    The version is new, since jobs that tell something now find something else.

    Raises: BadData, CardMismatch
    """
    card = load_card(folder)
    if card.head != "classify":
        raise BadData("only a classify head takes clinical data")
    if card.metrics and card.metrics.split != "test":
        raise BadData(
            f"it was measured on {card.metrics.split}: it has seen what evidence would be measured on"
        )
    known = known_of_samples(samples, pipeline)
    splits = {name: _looked(card, folder, pipeline, samples, known, name) for name in SPLITS}
    clinical = learned(splits["train"], splits["val"], _sites(splits["train"], pipeline))
    card = card.model_copy(update={"version": datetime.now(UTC).strftime("%Y%m%d.%H%M")})
    tested = splits["test"]
    clinical = compared(card, clinical, "test", tested.samples, tested.shares, tested.known)
    card = card.model_copy(update={"clinical": clinical})
    save_card(card, folder)
    return card


def _looked(
    card: cards.ModelCard,
    folder: Path,
    pipeline: Pipeline,
    samples: Sequence[Sample],
    known: Sequence[Known],
    name: str,
) -> Split:
    rows = [row for row, sample in enumerate(samples) if sample.split == name]
    if not rows:
        raise BadData(f"no picture is in {name}")
    chosen = [samples[row] for row in rows]
    return Split(chosen, [known[row] for row in rows], outcome_of(card, folder, pipeline.name, chosen)[1])


def _sites(train: Split, pipeline: Pipeline) -> tuple[str, ...]:
    """The sites that training pictures have, in the catalog's order; of others nothing can be learned."""
    seen = {one.site for one in train.known}
    return tuple(site for site in pipeline.sites if site in seen)


def learned(train: Split, val: Split, sites: Sequence[str]) -> cards.Clinical:
    """The evidence that makes `train` most likely, at the strength that makes `val` most likely."""
    parts = (len(AGES), len(SEXES), len(sites))
    inputs = [torch.from_numpy(encoded(one.known, AGES, SEXES, sites)) for one in (train, val)]
    logits = [torch.from_numpy(np.log(one.shares.clip(LEAST))) for one in (train, val)]
    truth = [torch.from_numpy(labels_of(one.samples)) for one in (train, val)]
    scale = rescaled(logits[1], truth[1]).scale
    base = scale * logits[0] + rescaled(logits[0], truth[0], scale).bias
    tried = {strength: fitted(base, truth[0], inputs[0], parts, strength) for strength in STRENGTHS}
    best = min(tried, key=lambda one: rescaled(logits[1] + inputs[1] @ tried[one], truth[1]).loss)
    rows = tried[best].round(decimals=4)  # as the card holds them, so that what is measured is what is served
    age, sex, site = (part.tolist() for part in rows.split(parts))
    return cards.Clinical(
        ages=AGES,
        age=age,
        sex=dict(zip(SEXES, sex, strict=True)),
        site=dict(zip(sites, site, strict=True)),
        strength=best,
    )


class Rescaled(NamedTuple):
    """Logits times `scale` plus `bias`, as likely as that can make the truth; `loss` is what remains, in nats."""

    scale: float
    bias: Tensor  # (labels,)
    loss: float


def rescaled(logits: Tensor, truth: Tensor, scale: float | None = None) -> Rescaled:
    """How sure logits should be and how common labels are, which no evidence must be credited with.

    A network is surer of the pictures it learned from than it should be of others, so training takes `val`'s scale.

    Shapes: logits (N, labels) float64, truth (N,)
    """
    bias = torch.zeros(logits.shape[1], dtype=torch.float64, requires_grad=True)
    log_scale = torch.zeros((), dtype=torch.float64, requires_grad=scale is None)

    def loss() -> Tensor:
        return F.cross_entropy(logits * (log_scale.exp() if scale is None else scale) + bias, truth)

    _minimise(loss, [bias, log_scale] if scale is None else [bias])
    return Rescaled(
        float(log_scale.detach().exp()) if scale is None else scale, bias.detach(), float(loss().detach())
    )


def fitted(base: Tensor, truth: Tensor, inputs: Tensor, parts: Sequence[int], strength: float) -> Tensor:
    """The rows of evidence that, added to `base`, make the truth most likely.

    Every way of leaving out age, sex or site counts as much as it is likely, so that what is left says as much as it
    can by itself. The problem is convex: no seed, step size or number of epochs has a say in the result, and a value
    that no picture has keeps its row of 0.

    Shapes: base (N, labels) float64, truth (N,), inputs (N, F) -> (F, labels)
    """
    rows = torch.zeros((inputs.shape[1], base.shape[1]), dtype=torch.float64, requires_grad=True)
    ways = list(_ways(inputs, parts))

    def loss() -> Tensor:
        shares = [likely * F.cross_entropy(base + left @ rows, truth) for left, likely in ways]
        return torch.stack(shares).sum() + strength / len(base) * rows.square().sum()

    _minimise(loss, [rows])
    return rows.detach()


def _ways(inputs: Tensor, parts: Sequence[int]) -> Iterator[tuple[Tensor, float]]:
    """The inputs with some parts left out, and how likely that is; all but the way that leaves nothing.

    Shapes: -> (N, F)
    """
    for kept in itertools.product((True, False), repeat=len(parts)):
        if any(kept):
            mask = torch.tensor(kept).repeat_interleave(torch.tensor(parts))
            yield inputs * mask, float(np.prod([1 - LEFT_OUT if one else LEFT_OUT for one in kept]))


def _minimise(loss: Callable[[], Tensor], parameters: list[Tensor]) -> None:
    optimizer = torch.optim.LBFGS(parameters, max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return float(value.detach())

    optimizer.step(closure)


if __name__ == "__main__":
    main()
