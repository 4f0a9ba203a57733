"""A job's stored picture, decoded; apart from this process when it may be what killed a worker."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from shared.errors import ImageFailed, RequestError
from shared.images import Limits, decode
from shared.settings import Settings
from shared.steps import step
from shared.storage import Storage
from shared.tables import JobRow
from workers.decode_alone import decode_alone


def stored_pictures(
    storage: Storage, job: JobRow, settings: Settings, sizes: Iterable[int]
) -> dict[int, NDArray[np.uint8]]:
    """The job's picture for each of `sizes`: a JPEG scaled down to sides that are still so long; 0: as it is.

    Raises: ImageFailed
    """
    limits = Limits(max_bytes=settings.max_upload_bytes, max_pixels=settings.max_pixels)
    frame = job.frame or 1
    try:
        with step("decode"):
            data = storage.get(f"{job.id}/image")
            if job.lost:
                return {size: decode_alone(data, limits, size, frame) for size in set(sizes)}
            return {size: decode(data, limits, at_least_px=size, frame=frame) for size in set(sizes)}
    except RequestError as error:
        raise ImageFailed(error.detail) from error
