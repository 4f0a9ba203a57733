"""What tests of jobs do and look at: short names for the real functions, and for the rows behind them."""

from typing import Any

from sqlalchemy import func, select, update

from shared import jobs
from shared.database import Database
from shared.errors import OutOfMemory
from shared.ids import new_id
from shared.job_types import Claim, NewArtifact, Outcome
from shared.lifecycle import Event, Status
from shared.tables import AttemptRow, JobRow

CAP = 3
MASK = NewArtifact("mask", "image/png", "1" * 64, 100)


def row(database: Database, job_id: str) -> JobRow:
    return database.read(lambda session: session.get_one(JobRow, job_id))


def columns(database: Database, job_id: str) -> dict[str, Any]:
    stored = row(database, job_id)
    return {column.name: getattr(stored, column.name) for column in JobRow.__table__.columns}


def attempts(database: Database, job_id: str) -> list[tuple[int, str, str | None, str | None]]:
    query = select(AttemptRow).where(AttemptRow.job_id == job_id).order_by(AttemptRow.number)
    found = database.read(lambda session: session.scalars(query).all())
    return [(one.number, one.stage, one.outcome, one.error) for one in found]


def count(database: Database, table: Any) -> int:
    return database.read(lambda session: session.scalar(select(func.count()).select_from(table))) or 0


def alter(database: Database, job_id: str, **values: Any) -> None:
    """Let time pass, or bend a row, behind the back of shared/jobs.py."""
    database.write(lambda s: s.execute(update(JobRow).where(JobRow.id == job_id).values(**values)))


def claim(database: Database, *ids: str, stage: str = "vision", lease_s: float = 30) -> Claim:
    return jobs.claim(database, ids, stage, "worker", lease_s=lease_s, limit_s=60)


def record(database: Database, *outcomes: Outcome) -> dict[str, int]:
    return jobs.record(database, outcomes, max_attempts=CAP, redispatch_s=30)


def lapse(database: Database, job_id: str) -> None:
    alter(database, job_id, lease_until=1)


def perform(database: Database, event: Event, job_id: str, claim_id: str) -> bool:
    """Do to a job what the event stands for; whether the function says that it happened."""
    match event:
        case Event.CLAIM:
            return bool(claim(database, job_id).jobs)
        case Event.CANCEL:
            return jobs.cancel(database, job_id)
        case Event.EXPIRE:
            return list(jobs.expire(database)) == [job_id]
        case Event.LOSE:
            return jobs.reap(database, CAP) != {}
        case Event.FAIL | Event.RETRY:
            return record(database, Outcome(job_id, claim_id, event, error=OutOfMemory())) != {}
        case _:
            return record(database, Outcome(job_id, claim_id, event, values={"findings": []})) != {}


def in_status(database: Database, status: Status, job_id: str) -> str:
    """Bring a queued job into a status by its real events; the claim that it has, or had."""
    if status is Status.QUEUED:
        return new_id()
    claim_id = claim(database, job_id).id
    way = {
        Status.SUCCEEDED: Event.FINISH,
        Status.FAILED: Event.FAIL,
        Status.CANCELED: Event.CANCEL,
        Status.EXPIRED: Event.EXPIRE,
    }
    if status in way:
        if status is Status.EXPIRED:
            alter(database, job_id, deadline_at=1)
        assert perform(database, way[status], job_id, claim_id)
    return claim_id
