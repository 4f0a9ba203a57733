"""The explain stage: why the first finding was found, as two overlays; after the answer, so that nobody waits."""

import zlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from shared.cards import load_card
from shared.catalog import PIPELINES, Head
from shared.clinical import Known, of_patient
from shared.errors import StageError
from shared.masks import jpeg, painted
from shared.networks import Classifier, load_network
from shared.preprocess import square_of, to_tensor
from shared.schemas import Warning
from shared.settings import Settings
from shared.storage import Storage
from shared.tables import JobRow
from workers.activation import activation_map, has_activation_map
from workers.artifacts import Made, keep
from workers.attempt import Found
from workers.lime import SAMPLES, Stopped, lime_weights, through
from workers.picture import stored_pictures
from workers.serving import Models, Served

Pixels = NDArray[np.uint8]
EXPLANATION, ACTIVATION = "explanation", "activation"
SHOWN = 5  # superpixels, those that weigh most
FOR, AGAINST = 1, 2
COLOURS = {FOR: (0, 200, 0), AGAINST: (230, 0, 0)}
WARM = (255, 80, 0)


class ExplainStage:
    """LIME on the network that found it, and a class-activation map."""

    name = "explain"

    def __init__(self, models: Models, storage: Storage, settings: Settings) -> None:
        self._models, self._storage, self._settings = models, storage, settings

    def begin(self, job: JobRow, lost: Callable[[], bool]) -> Callable[[], Found]:
        return lambda: self._explain(job, lost)

    def slow(self, job: JobRow) -> bool:
        """Hundreds of passes."""
        return True

    def spare(self, job: JobRow, error: StageError) -> Found:
        """What a job gets whose explanation failed for good: findings and answer are worth having without it."""
        return Found({"warnings": [*(job.warnings or ()), failed_warning(error.detail).model_dump()]})

    def _explain(self, job: JobRow, lost: Callable[[], bool]) -> Found:
        head = PIPELINES[job.pipeline].classifier
        if head is None or not job.findings:
            return Found()
        served = self._models.served(head)
        size_px = served.card.preprocess.size_px
        decoded = stored_pictures(self._storage, job, self._settings, (0, size_px))
        # The network is shown what the vision stage showed it: a JPEG that was scaled while it was decoded.
        pixels, seen = decoded[0], to_tensor(decoded[size_px], served.card.preprocess)
        label = [one.code for one in head.labels].index(job.findings[0]["label"])
        try:
            made = [self._lime(job, served, pixels, seen, label, lost)]
        except Stopped:
            return Found()
        if has_activation_map(served.card):
            made.append(self._activation(served, pixels, seen, label))
        return Found(artifacts=keep(self._storage, job.id, made, lost))

    def _lime(
        self, job: JobRow, served: Served, pixels: Pixels, seen: Tensor, label: int, lost: Callable[[], bool]
    ) -> Made:
        """Seeded by the job, so that a second attempt explains the same."""
        picture = seen.permute(1, 2, 0).numpy()
        samples = SAMPLES[job.explain]  # type: ignore[index]
        predict = asking(served, Known(job.age, job.sex, job.site), lost)
        weights = lime_weights(picture, label, samples, zlib.crc32(job.id.encode()), predict)
        mask = enlarged_to(strongest(weights), pixels, served)
        return Made(EXPLANATION, "image/jpeg", jpeg(painted(pixels, mask, COLOURS)))

    def _activation(self, served: Served, pixels: Pixels, seen: Tensor, label: int) -> Made:
        folder = self._settings.models_path / served.head.weights
        network = _network(folder, served.head, served.card.sha256)
        heat = activation_map(network, served.card, seen, label)
        shown = enlarged_to(np.rint(heat * 255).astype(np.uint8), pixels, served)
        return Made(ACTIVATION, "image/jpeg", jpeg(heated(pixels, shown)))


def asking(
    served: Served, known: Known, lost: Callable[[], bool]
) -> Callable[[Iterable[Pixels]], list[list[float]]]:
    """What the head finds in samples of a picture, with what is known of the patient as it is."""
    classes = len(served.head.labels)

    def found(pictures: Iterable[Pixels]) -> list[list[float]]:
        rows = [row[:classes] for row in through(served.batcher, pictures, lost)]
        return of_patient(rows, known, served.card.clinical)

    return found


def failed_warning(detail: str) -> Warning:
    return Warning(code="explanation_failed", detail=f"There is no explanation of the findings: {detail}")


@lru_cache(maxsize=2)
def _network(folder: Path, head: Head, sha256: str) -> Classifier:
    """The card's network as torch has it, whatever runtime serves it; loaded when it is first explained.

    Raises: CardMismatch, also when the card was replaced since
    """
    network = load_network(load_card(folder), head, folder)
    assert isinstance(network, Classifier)
    return network


def strongest(weights: NDArray[np.float64]) -> Pixels:
    """The superpixels that weigh most: FOR or AGAINST the label, 0 elsewhere.

    Shapes: (S, S) -> (S, S)
    """
    levels = np.unique(weights)
    shown = levels[np.argsort(-np.abs(levels))][:SHOWN]
    sides = np.where(weights > 0, FOR, AGAINST)
    mask: Pixels = np.where(np.isin(weights, shown[shown != 0]), sides, 0).astype(np.uint8)
    return mask


def enlarged_to(square: Pixels, pixels: Pixels, served: Served) -> Pixels:
    """What the network saw, back in its place in the picture; the rest is 0.

    Shapes: square (S, S), pixels (H, W, 3) -> (H, W)
    """
    rows, columns = square_of(pixels.shape[1], pixels.shape[0], served.card.preprocess)
    size = (columns.stop - columns.start, rows.stop - rows.start)
    way = Image.Resampling.NEAREST if square.max() <= AGAINST else Image.Resampling.BILINEAR
    whole = np.zeros(pixels.shape[:2], np.uint8)
    whole[rows, columns] = np.asarray(Image.fromarray(square).resize(size, way))
    return whole


def heated(pixels: Pixels, heat: Pixels) -> Pixels:
    """The picture, warm where the heat is.

    Shapes: pixels (H, W, 3), heat (H, W) -> (H, W, 3)
    """
    share = (heat.astype(np.float32) / 255 * 0.6)[..., None]
    warm: Pixels = np.rint(pixels * (1 - share) + np.asarray(WARM, np.float32) * share).astype(np.uint8)
    return warm
