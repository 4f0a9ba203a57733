"""The vision stage: stored bytes to findings."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.catalog import PIPELINES, Lang
from shared.errors import ImageFailed, RequestError
from shared.heads import findings
from shared.images import Limits, decode
from shared.preprocess import to_tensor
from shared.settings import Settings
from shared.storage import Storage
from shared.tables import JobRow
from workers.attempt import Found
from workers.decode_alone import decode_alone
from workers.microbatch import RANKS
from workers.serving import Models, Served


class VisionStage:
    """Every head of the pipeline, in order."""

    name = "vision"

    def __init__(self, models: Models, storage: Storage, settings: Settings) -> None:
        self._models, self._storage = models, storage
        self._limits = Limits(max_bytes=settings.max_upload_bytes, max_pixels=settings.max_pixels)

    def begin(self, job: JobRow, lost: Callable[[], bool]) -> Callable[[], Found]:
        """Decode, and hand the picture to the microbatcher of each head."""
        served = [self._models.served(head) for head in PIPELINES[job.pipeline].heads]
        pixels = self._pixels(job, max(one.card.preprocess.size_px for one in served))
        waiting = [
            (one, one.batcher.submit(to_tensor(pixels, one.card.preprocess), RANKS[job.lane]))
            for one in served
        ]
        lang: Lang = job.lang  # type: ignore[assignment]

        def end() -> Found:
            values: dict[str, Any] = {}
            for one, future in waiting:
                values |= _result(one, future.result(), lang)
            return Found(values)

        return end

    def _pixels(self, job: JobRow, at_least_px: int) -> NDArray[np.uint8]:
        """The stored picture. A job whose worker died once is decoded apart, in case the picture killed it."""
        try:
            data = self._storage.get(f"{job.id}/image")
            if job.lost:
                return decode_alone(data, self._limits, at_least_px)
            return decode(data, self._limits, at_least_px=at_least_px)
        except RequestError as error:
            raise ImageFailed(error.detail) from error


def _result(served: Served, row: list[float], lang: Lang) -> dict[str, Any]:
    """The columns that one head fills."""
    card, head = served.card, served.head
    found = findings(row, card, head, lang)
    return {
        "findings": [finding.model_dump() for finding in found],
        "model": {"name": card.name, "version": card.version, "sha256": card.sha256},
    }
