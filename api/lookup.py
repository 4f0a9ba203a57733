"""Finds the caller's jobs and batches for the views, and waits for them without holding a connection.

What is another owner's is not found, as if it did not exist.
"""

import re
import time
from contextlib import suppress

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from api.auth import owner, touched
from api.services import Services
from api.views import Shown, show
from shared.errors import NotFound, ServiceUnavailable
from shared.lifecycle import TERMINAL
from shared.tables import BatchRow, JobRow

ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def version_of(room: Services, job_id: str) -> tuple[int, str]:
    """Version and status, without the rest of the row."""
    mine = (JobRow.id == touched(valid(job_id)), JobRow.owner == owner())
    statement = select(JobRow.version, JobRow.status).where(*mine)
    found = room.db.read(lambda session: session.execute(statement).first())
    if found is None:
        raise NotFound()
    return found.version, found.status


def row_of(room: Services, job_id: str) -> JobRow:
    statement = own_job(job_id)
    row = room.db.read(lambda session: session.scalar(statement))
    if row is None:
        raise NotFound()
    return row


def own_job(job_id: str, whose: str | None = None) -> "Select[JobRow]":
    """Raises: NotFound when it is no id"""
    mine = owner() if whose is None else whose
    return select(JobRow).where(JobRow.id == touched(valid(job_id)), JobRow.owner == mine)


def own_batch(batch_id: str) -> "Select[BatchRow]":
    """Raises: NotFound when it is no id"""
    return select(BatchRow).where(BatchRow.id == touched(valid(batch_id)), BatchRow.owner == owner())


def valid(job_id: str) -> str:
    """Ids are compared as ASCII by the database, so anything else ends here."""
    if not ID.fullmatch(job_id):
        raise NotFound()
    return job_id


def batch_row(room: Services, batch_id: str) -> BatchRow:
    statement = own_batch(batch_id)
    row = room.db.read(lambda session: session.scalar(statement))
    if row is None:
        raise NotFound()
    return row


def batch_exists(room: Services, batch_id: str) -> bool:
    statement = own_batch(batch_id).with_only_columns(BatchRow.id)
    return room.db.read(lambda session: session.scalar(statement)) is not None


def load(room: Services, job_id: str, whose: str | None = None) -> Shown:
    """The caller's job; what runs on when the request is over, such as a stream, says whose."""
    statement = own_job(job_id, whose)

    def work(session: Session) -> Shown:
        row = session.scalar(statement)
        if row is None:
            raise NotFound()
        return show(session, [row], room.pace)[0]

    return room.db.read(work)


def wait_for_end(room: Services, job_id: str, wait_s: float) -> None:
    """Waiting is a preference: with too many clients waiting the answer comes at once."""
    deadline = time.monotonic() + wait_s
    with suppress(ServiceUnavailable), room.waiters.watch(job_id) as watch:
        version, status = version_of(room, job_id)
        while status not in TERMINAL and watch.wait(version, deadline - time.monotonic()):
            version, status = version_of(room, job_id)


def hold(room: Services, job_id: str, seen: int | None, wait_s: float) -> None:
    """Return when the job's version is not `seen`, when it has ended, or when time is up.

    None stands for the version that it has now.

    Raises: NotFound; ServiceUnavailable when too many clients wait already
    """
    deadline = time.monotonic() + wait_s
    with room.waiters.watch(job_id) as watch:
        version, status = version_of(room, job_id)
        known = version if seen is None else seen
        while version == known and status not in TERMINAL:
            if not watch.wait(known, deadline - time.monotonic()):
                return
            version, status = version_of(room, job_id)
