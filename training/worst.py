"""The pictures that a network did worst on, ready to be looked at."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from scipy.ndimage import binary_dilation

from shared.catalog import Head
from shared.heads import pixel_probabilities
from shared.images import Limits, Pixels, decode
from shared.masks import enlarged
from shared.networks import WEIGHTS, Network, build_network, load_network
from shared.preprocess import normalise, to_tensor
from training.classify import labels_of
from training.finished import Finished
from training.grade import grades_of
from training.overlap import Mask, mean, outline
from training.pictures import checked_mask
from training.samples import Archives, BadData, Sample

MOST = 12  # pictures of a gallery
SIDE_PX = (
    400  # about, the longer one; a picture is enlarged by whole numbers, so that its pixels stay visible
)
WHITE = (255, 255, 255)


@dataclass(frozen=True)
class Shown:
    """One picture and what is said of it."""

    id: str
    group: str
    address: str  # the picture itself, as a data: address
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Gallery:
    title: str
    note: str
    shown: tuple[Shown, ...]


def mistakes(run: Finished, samples: Sequence[Sample]) -> list[Gallery]:
    """Of a classifier: wrong and surest of it, then what it was taught not to miss and missed."""
    truth, shares = labels_of(samples), run.outcome
    top = shares.argmax(axis=1)
    wrong = np.flatnonzero(top != truth)
    surest = wrong[np.argsort(-shares[wrong, top[wrong]], kind="stable")]
    note = f"{len(wrong)} of {len(samples)} pictures got another top label than their own; these most surely."
    galleries = [_named("Surest mistakes", note, surest, run, samples)]
    for position, label in enumerate(run.head.labels):
        if not label.sensitivity:
            continue
        mine = np.flatnonzero(truth == position)
        missed = mine[shares[mine, position] < run.card.thresholds[label.code]]
        order = missed[np.argsort(shares[missed, position], kind="stable")]
        note = f"{len(missed)} of {len(mine)} pictures stayed below the threshold; the least probable first."
        galleries.append(_named(f"{label.en} that was not flagged", note, order, run, samples))
    return [gallery for gallery in galleries if gallery.shown]


def _named(
    title: str, note: str, rows: NDArray[np.int64], run: Finished, samples: Sequence[Sample]
) -> Gallery:
    labels, shown = run.head.labels, []
    with Archives() as archives:
        for row in rows[:MOST].tolist():
            truth, top = samples[row].label, int(run.outcome[row].argmax())
            facts = [("truth", f"{labels[truth].en}, {run.outcome[row, truth]:.1%}")]
            if top != truth:
                facts.append(("found", f"{labels[top].en}, {run.outcome[row, top]:.1%}"))
            shown.append(_shown(samples[row], fitted(_pixels(samples[row], archives)), facts))
    return Gallery(title, note, tuple(shown))


def misgraded(run: Finished, samples: Sequence[Sample]) -> list[Gallery]:
    """Of a grader: the pictures whose grades are furthest off, added up over conditions."""
    truth, found = grades_of(samples), run.outcome.argmax(axis=2)
    away = (np.abs(truth - found) * (truth >= 0)).sum(axis=1)
    order, shown = np.argsort(-away, kind="stable"), []
    with Archives() as archives:
        for row in order[: min(MOST, int((away > 0).sum()))].tolist():
            facts = [
                (condition.en, f"is {truth[row, n]}, found {found[row, n]}")
                for n, condition in enumerate(run.head.labels)
                if truth[row, n] not in (found[row, n], -1)
            ]
            shown.append(_shown(samples[row], fitted(_pixels(samples[row], archives)), facts))
    note = f"{int((away > 0).sum())} of {len(samples)} pictures have a grade that is off; these by most."
    return [Gallery("Worst grades", note, tuple(shown))] if shown else []


def misdrawn(run: Finished, samples: Sequence[Sample], model: Path) -> list[Gallery]:
    """Of a segmenter: the masks with the lowest mean Dice, as outlines over their pictures.

    `model` holds the weights; of a cross-validation each picture is looked at by the network that never saw it.

    Raises: CardMismatch if they are not the weights of this run
    """
    scores = mean(run.outcome[:, 0, 1:], axis=1)
    order = np.argsort(np.where(np.isnan(scores), np.inf, scores), kind="stable")[:MOST]
    networks: dict[Path, Network] = {}
    shown = []
    with Archives() as archives:
        for row in order.tolist():
            sample = samples[row]
            place = run.folder / run.stood[sample.id] if run.config.folds else model
            if place not in networks:
                networks[place] = _network(run, place)
            pixels, truth = (
                _pixels(sample, archives),
                checked_mask(sample, archives, len(run.head.labels), []),
            )
            if truth is None:
                raise BadData(f"{sample.id}: its mask cannot be read any more.")
            drawn = outlined(pixels, truth, _found(networks[place], run, pixels), run.head)
            shown.append(_shown(sample, drawn, _overlaps(run, row)))
    note = "Lowest mean Dice first. White: the true outline; in the label's colour: what the network drew."
    return [Gallery("Worst masks", note, tuple(shown))]


def _overlaps(run: Finished, row: int) -> list[tuple[str, str]]:
    values = zip(run.head.labels[1:], run.outcome[row, 0, 1:].tolist(), strict=True)
    return [(label.en, "in neither mask" if np.isnan(one) else f"Dice {one:.3f}") for label, one in values]


def _network(run: Finished, folder: Path) -> Network:
    if not run.config.folds:
        return load_network(run.card, run.head, folder)
    network = build_network(run.config.architecture, run.head)
    network.load_state_dict({name: value.float() for name, value in load_file(folder / WEIGHTS).items()})
    return network.eval()


@torch.inference_mode()
def _found(network: Network, run: Finished, pixels: Pixels) -> Mask:
    """The mask as a worker would find it, in the picture's own size."""
    batch = normalise(to_tensor(pixels, run.card.preprocess)[None], run.card.preprocess, torch.float32)
    shares = pixel_probabilities(network(batch), run.card)[0].numpy()
    smallest = (0.0, *(run.card.smallest_area[code] for code in run.card.labels[1:]))
    return enlarged(shares, (pixels.shape[1], pixels.shape[0]), smallest).mask


def outlined(pixels: Pixels, truth: Mask, found: Mask, head: Head) -> Pixels:
    """The picture with both outlines of every label but the background.

    Shapes: pixels (H, W, 3), truth and found (H, W) -> (h, w, 3), as `fitted` makes it
    """
    canvas = fitted(pixels).copy()
    size = (canvas.shape[1], canvas.shape[0])
    for mask, ours in ((truth, False), (found, True)):
        large = np.asarray(Image.fromarray(mask.astype(np.uint8)).resize(size, Image.Resampling.NEAREST))
        for position, label in enumerate(head.labels[1:], 1):
            edge = binary_dilation(outline(large == position), iterations=1)
            canvas[edge] = (label.colour or WHITE) if ours else WHITE
    return canvas


def fitted(pixels: Pixels) -> Pixels:
    """The picture made smaller, or larger by a whole number, until its longer side has about SIDE_PX."""
    height, width = pixels.shape[:2]
    scale = SIDE_PX / max(height, width)
    scale = float(round(scale)) if scale > 1 else scale
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def _pixels(sample: Sample, archives: Archives) -> Pixels:
    return decode(sample.copies[0].read(archives), Limits())


def _shown(sample: Sample, pixels: Pixels, facts: Sequence[tuple[str, str]]) -> Shown:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=88)
    address = "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
    return Shown(sample.id, sample.group, address, tuple(facts))
