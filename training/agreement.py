"""Whether a classifier says the same of the same picture when it comes in another size."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from shared.cards import Agreement, ModelCard, load_card, save_card
from shared.catalog import Head
from shared.networks import Network, load_network
from training import metrics
from training.forward import predict
from training.importers.files import PICTURES, by_stem, copies_below
from training.metrics import Labels, bootstrap, intervals
from training.pictures import load_pictures
from training.samples import BadData, Copy, Sample


def agree(folder: Path, head: Head, samples: Sequence[Sample], others: Path) -> Agreement:
    """Compare the coarsest copy of each picture with the one of its name in `others`; writes the card.

    `others` is a folder or a zip. It may hold pictures of every split: those in `train` are counted apart.

    Raises: BadData if no picture of the data set is in `others`
    """
    card = load_card(folder)
    network = load_network(card, head, folder)
    found = by_stem(copies_below(others, PICTURES))
    pairs = [(sample, sample.copies[-1], found[sample.id][0]) for sample in samples if sample.id in found]
    if not pairs:
        raise BadData(f"{others} holds no picture that is named as one of the data set.")
    own, other = [pair[1] for pair in pairs], [pair[2] for pair in pairs]
    alike = _top(network, card, own) == _top(network, card, other)
    unseen = np.array([sample.split != "train" for sample, *_ in pairs])
    bounds = bootstrap(
        [sample.group for sample, *_ in pairs],
        lambda rows: {"alike": float(alike[rows].mean())},
        draws=metrics.DRAWS,
    )
    agreement = Agreement(
        pairs=len(pairs),
        alike=intervals({"alike": float(alike.mean())}, bounds)["alike"],
        unseen=int(unseen.sum()),
        unseen_alike=round(float(alike[unseen].mean()), 4) if unseen.any() else None,
    )
    save_card(card.model_copy(update={"agreement": agreement}), folder)
    return agreement


def _top(network: Network, card: ModelCard, copies: Sequence[Copy]) -> Labels:
    pictures = load_pictures(copies, card.preprocess, "reading pairs")
    top: Labels = predict(network, pictures, card.preprocess, 64, torch.device("cpu")).argmax(dim=1).numpy()
    return top


def show(agreement: Agreement, console: Console) -> None:
    found = agreement.alike
    console.print(
        f"{agreement.pairs} pictures in two sizes: {found.value:.1%} get the same top label "
        f"(95 % {found.low:.1%} to {found.high:.1%})"
    )
    if agreement.unseen_alike is not None:
        console.print(f"  of the {agreement.unseen} that are not in train: {agreement.unseen_alike:.1%}")
