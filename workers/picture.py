"""A job's stored picture, decoded; apart from this process when it may be what killed a worker."""

import numpy as np
from numpy.typing import NDArray

from shared.errors import ImageFailed, RequestError
from shared.images import Limits, decode
from shared.settings import Settings
from shared.storage import Storage
from shared.tables import JobRow
from workers.decode_alone import decode_alone


def stored_picture(
    storage: Storage, job: JobRow, settings: Settings, at_least_px: int = 0
) -> NDArray[np.uint8]:
    """Pixels, scaled down to `at_least_px` where the format allows it; 0: never.

    Raises: ImageFailed
    """
    limits = Limits(max_bytes=settings.max_upload_bytes, max_pixels=settings.max_pixels)
    try:
        data = storage.get(f"{job.id}/image")
        if job.lost:
            return decode_alone(data, limits, at_least_px, job.frame or 1)
        return decode(data, limits, at_least_px=at_least_px, frame=job.frame or 1)
    except RequestError as error:
        raise ImageFailed(error.detail) from error
