"""The vision stage: stored bytes to findings."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from shared import doubt
from shared.catalog import Lang
from shared.clinical import Known, of_patient
from shared.figures import Figures
from shared.heads import findings, grades
from shared.preprocess import to_tensor
from shared.settings import Settings
from shared.storage import Storage
from shared.tables import JobRow
from workers import segment
from workers.artifacts import keep
from workers.attempt import Found
from workers.microbatch import RANKS
from workers.picture import stored_picture
from workers.results import HeadResult, merged, models_used
from workers.serving import Models, Served

QUICK_PIXELS = 4_000_000  # what is larger may take longer than a whole microbatch


class VisionStage:
    """Every head of the pipeline, in order."""

    name = "vision"

    def __init__(
        self, models: Models, storage: Storage, settings: Settings, figures: Figures | None = None
    ) -> None:
        self._models, self._storage, self._settings = models, storage, settings
        self._decoding = (figures or Figures()).decode_seconds

    def begin(self, job: JobRow, lost: Callable[[], bool]) -> Callable[[], Found]:
        """Decode, and hand the picture to the microbatcher of each head."""
        served = self._models.heads_of(job.pipeline)
        with self._decoding.time():
            pixels = stored_picture(self._storage, job, self._settings, _at_least_px(served))
        lang: Lang = job.lang  # type: ignore[assignment]
        source = self._dicom_source(job, served)
        known = Known(job.age, job.sex, job.site)
        waiting = [hand_in(one, pixels, RANKS[job.lane], lang, known, source) for one in served]

        def end() -> Found:
            result = merged([wait() for wait in waiting])
            used = {"model": models_used([one.card for one in served], known)}
            return Found(result.values | used, keep(self._storage, job.id, result.made, lost))

        return end

    def slow(self, job: JobRow) -> bool:
        """What may have killed a worker is decoded by a process of its own, with half a minute to do it."""
        pixels = (job.width or 0) * (job.height or 0)
        return bool(job.lost) or pixels > QUICK_PIXELS or job.media_type == "application/dicom"

    def _dicom_source(self, job: JobRow, served: Sequence[Served]) -> segment.DicomSource | None:
        """Only a mask of a DICOM picture becomes a DICOM object."""
        if job.media_type != "application/dicom" or not _outlined(served):
            return None
        return segment.DicomSource(job.id, self._storage.get(f"{job.id}/image"), job.frame or 1)


def _outlined(served: Sequence[Served]) -> bool:
    return any(one.head.kind == "segment" for one in served)


def _at_least_px(served: Sequence[Served]) -> int:
    """How small a JPEG may be decoded; a mask has the picture's own size, and needs all of it."""
    if _outlined(served):
        return 0
    return max(one.card.preprocess.size_px for one in served)


def hand_in(
    served: Served,
    pixels: NDArray[np.uint8],
    rank: int,
    lang: Lang,
    known: Known,
    source: segment.DicomSource | None,
) -> Callable[[], HeadResult]:
    """Give the picture to a head's microbatcher; what is returned waits for it, and shapes what it found."""
    if served.head.kind == "segment":
        return segment.hand_in(served, pixels, rank, lang, source)
    future = served.batcher.submit(to_tensor(pixels, served.card.preprocess), rank)
    if served.head.kind == "grade":
        return lambda: HeadResult({"grades": _dumped(grades(future.result(), served.head, lang))})
    return lambda: _classified(served, future.result(), min(pixels.shape[:2]), lang, known)


def _classified(served: Served, row: list[float], side_px: int, lang: Lang, known: Known) -> HeadResult:
    """Findings, and what the network doubts. Without a doubt the column stays empty."""
    classes = len(served.head.labels)
    (shares,) = of_patient([row[:classes]], known, served.card.clinical)
    values = {"findings": _dumped(findings(shares, served.card, served.head, lang))}
    limits = served.card.doubt
    if limits and (said := doubt.warnings(doubt.Seen(*row[classes:]), limits, side_px)):
        values["warnings"] = _dumped(said)
    return HeadResult(values)


def _dumped(found: Iterable[BaseModel]) -> list[dict[str, Any]]:
    return [one.model_dump() for one in found]
