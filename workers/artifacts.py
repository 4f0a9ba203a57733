"""What a stage made of a picture, on its way into the store."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shared.jobs import NewArtifact
from shared.storage import Storage


@dataclass(frozen=True)
class Made:
    """An artifact's bytes; `media_type` says what they are."""

    name: str
    media_type: str
    data: bytes


def keep(
    storage: Storage, job_id: str, made: Sequence[Made], lost: Callable[[], bool]
) -> tuple[NewArtifact, ...]:
    """Store the bytes; the rows follow with the attempt's record.

    Twice does no harm, since the same name is replaced. Of a job that was canceled or erased meanwhile nothing
    is written.
    """
    if lost():
        return ()
    for one in made:
        storage.put(f"{job_id}/{one.name}", one.data)
    return tuple(
        NewArtifact(one.name, one.media_type, hashlib.sha256(one.data).hexdigest(), len(one.data))
        for one in made
    )
