"""A network small enough to load in no time, with a card that is true of it."""

from pathlib import Path

import torch

from shared.cards import Architecture, Clinical, ModelCard, Preprocess, save_card, sha256_of
from shared.catalog import PIPELINES, Head, HeadKind
from shared.networks import WEIGHTS, build_network, save_weights

ARCHITECTURES: dict[HeadKind, Architecture] = {
    "classify": Architecture(name="test_efficientnet"),
    "grade": Architecture(name="test_efficientnet"),
    "segment": Architecture(source="medq", name="unet_bn", options={"widths": (8, 16)}),
}


def tiny_model(
    models: Path,
    pipeline: str = "skin",
    *,
    seed: int = 0,
    largest: int = 8,
    head: Head | None = None,
    threshold: float = 0.2,
) -> ModelCard:
    """Write card and random weights of a pipeline's first head, or of another; weights first, as training does."""
    head = head or PIPELINES[pipeline].heads[0]
    folder = models / head.weights
    folder.mkdir(parents=True, exist_ok=True)
    architecture = ARCHITECTURES[head.kind]
    torch.manual_seed(seed)
    network = build_network(architecture, head)
    with torch.no_grad():  # so that pictures differ in what is found, and a mix-up shows
        network.last_layer().weight.mul_(60 if head.kind != "segment" else 5)  # type: ignore[operator]
    save_weights(network, folder / WEIGHTS, torch.float32)
    card = ModelCard(
        name=head.weights,
        version=f"tiny.{seed}",
        head=head.kind,
        architecture=architecture,
        preprocess=Preprocess(
            size_px=32,
            crop="whole" if head.kind == "segment" else "center_square",
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        ),
        labels=tuple(label.code for label in head.labels),
        grades=tuple(grade.code for grade in head.grades),
        thresholds={label.code: threshold for label in head.labels} if head.kind == "classify" else {},
        smallest_area={label.code: 0.01 for label in head.labels[1:]} if head.kind == "segment" else {},
        temperature=1.0,
        largest_microbatch=largest,
        data="none: random weights for tests",
        licence="none",
        training={},
        weights_dtype="float32",
        sha256=sha256_of(folder / WEIGHTS),
    )
    save_card(card, folder)
    return card


def with_clinical(models: Path, card: ModelCard) -> ModelCard:
    """Give a tiny classifier evidence, drawn at random, for ages from 20 to 80, both sexes and two sites."""
    random = torch.Generator().manual_seed(5)
    rows = torch.randn((6, len(card.labels)), generator=random).tolist()
    clinical = Clinical(
        ages=(20, 80),
        age=rows[:2],
        sex={"female": rows[2], "male": rows[3]},
        site={"back": rows[4], "face": rows[5]},
        strength=1,
    )
    card = card.model_copy(update={"clinical": clinical})
    save_card(card, models / card.name)
    return card
