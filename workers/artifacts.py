"""What a stage made of a picture, on its way into the store."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from shared import retention
from shared.database import Database
from shared.errors import StorageUnavailable
from shared.job_types import NewArtifact
from shared.storage import Storage

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Made:
    """An artifact's bytes; `media_type` says what they are."""

    name: str
    media_type: str
    data: bytes


def forget(db: Database, storage: Storage, ids: Sequence[str]) -> None:
    """What was kept for jobs that were erased meanwhile, which `lost` may tell a second too late."""
    try:
        retention.erase_late(db, storage, ids)
    except StorageUnavailable:
        log.warning("late_blobs_left", jobs=len(ids))  # until the sweeper comes by


def keep(
    storage: Storage, job_id: str, made: Sequence[Made], lost: Callable[[], bool]
) -> tuple[NewArtifact, ...]:
    """Store the bytes; the rows follow with the attempt's record.

    Twice does no harm, since the same name is replaced. Of a job that was canceled or erased meanwhile nothing
    is written, as far as is known; `forget` sees to the rest.
    """
    if lost():
        return ()
    for one in made:
        storage.put(f"{job_id}/{one.name}", one.data)
    return tuple(
        NewArtifact(one.name, one.media_type, hashlib.sha256(one.data).hexdigest(), len(one.data))
        for one in made
    )
