"""The pictures of a batch once more, for the current model: what a rerun reads in place of an archive."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared import batches, images
from shared.availability import Availability
from shared.batches import NewRejected
from shared.catalog import PIPELINES
from shared.database import Database
from shared.errors import NotFound, PipelineUnavailable, RequestError
from shared.ids import entry_id
from shared.job_types import NewArtifact, again
from shared.lifecycle import Status
from shared.storage import Storage
from shared.tables import BatchRow, JobRow
from workers.intake import IMAGE, Made, Taken

PAGE = 100
FAILED = (Status.FAILED.value, Status.EXPIRED.value)


class Again:
    """The jobs of another batch, or those that failed there, under the same entry numbers."""

    def __init__(self, db: Database, storage: Storage, row: BatchRow, available: Availability) -> None:
        self._db, self._storage, self._row, self._available = db, storage, row, available
        self._statuses = FAILED if row.rerun_only == "failed" else tuple(status.value for status in Status)

    def count(self) -> int:
        wanted = (JobRow.batch_id == self._row.rerun_of, JobRow.status.in_(self._statuses))
        query = select(func.count()).select_from(JobRow).where(*wanted)
        return self._db.read(lambda session: session.scalar(query)) or 0

    def entries(self) -> Iterator[Taken]:
        after = self._row.entry - 1
        while page := self._page(after):
            for old in page:
                after = old.entry if old.entry is not None else after
                if old.status in self._statuses:
                    yield Taken(after, old.size_bytes or 0, partial(self._made, old, after))

    def _page(self, after: int) -> list[JobRow]:
        def work(session: Session) -> list[JobRow]:
            return list(batches.rows(session, self._row.rerun_of or "", after, PAGE))

        return self._db.read(work)

    def _made(self, old: JobRow, entry: int) -> Made:
        try:
            standing = self._available.standing(PIPELINES[old.pipeline])
            if not standing.available:
                raise PipelineUnavailable(standing.reason or "")
            picture = self._picture(old)
        except RequestError as error:
            name = old.entry_name or old.filename or old.id
            return Made(NewRejected(entry, name, error.slug, error.detail))
        new = again(old, entry_id(self._row.id, entry), lane="bulk")
        stored = NewArtifact(
            IMAGE, images.media_type(picture), hashlib.sha256(picture).hexdigest(), len(picture)
        )
        return Made(replace(new, batch_id=self._row.id, entry=entry, artifacts=(stored,)), picture)

    def _picture(self, old: JobRow) -> bytes:
        if old.erased_at is not None:
            raise NotFound("The job was erased: there is no picture to run again.")
        return self._storage.get(f"{old.id}/{IMAGE}")
