"""The only module that writes batches: made, read, ended and canceled by one conditional UPDATE each.

As with jobs, a statement that matches nothing means that somebody was first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, cast

from sqlalchemy import Table, case, delete, exists, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shared import audit, jobs
from shared.audit import Actor
from shared.batch_life import BatchEvent, BatchStatus, batch_sources, batch_target
from shared.database import SECOND, Database, now_us
from shared.errors import AttemptsExhausted, IdempotencyConflict, ServiceError, StaleAttempt
from shared.idempotency import IDEMPOTENCY_S, Idempotency
from shared.ids import new_id
from shared.job_types import NewJob
from shared.lifecycle import Event, Status, first_stage, sources
from shared.pauses import archives_unpaused
from shared.tables import BatchRow, JobRow, RejectedRow

RECENT_S = 60.0  # whose throughput tells how long the rest will take
UNFINISHED = tuple(status.value for status in sources(Event.CANCEL))
REJECTED = cast(Table, RejectedRow.__table__)


@dataclass(frozen=True)
class NewBatch:
    """What a submit fixes for good. The archive must lie in storage under `<id>/archive` before."""

    id: str
    owner: str = ""
    filename: str | None = None
    media_type: str | None = None
    sha256: str | None = None
    size_bytes: int | None = None
    defaults: dict[str, Any] = field(default_factory=dict)  # fields of shared/asked.py as text
    rerun_of: str | None = None  # then there is no archive: the pictures are that batch's
    rerun_only: str | None = None  # failed or all


@dataclass(frozen=True)
class NewRejected:
    """An entry that became no job."""

    entry: int
    name: str
    slug: str
    detail: str
    errors: list[dict[str, str]] | None = None


@dataclass(frozen=True)
class Counts:
    """Where the entries of a batch stand."""

    queued: int = 0  # never started
    running: int = 0  # also between stages
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    expired: int = 0
    rejected: int = 0
    lately: int = 0  # succeeded within the last RECENT_S; no status of its own

    @property
    def by_status(self) -> dict[str, int]:
        """What clients see."""
        return {name: number for name, number in asdict(self).items() if name != "lately"}

    @property
    def total(self) -> int:
        """Entries so far; BatchRow.entries, once it is known, says how many there will be."""
        return self.ended + self.queued + self.running

    @property
    def ended(self) -> int:
        return self.succeeded + self.failed + self.canceled + self.expired + self.rejected


def create(
    db: Database,
    new: NewBatch,
    redispatch_s: float,
    key: Idempotency | None = None,
    by: Actor | None = None,
) -> bool:
    """Insert a batch that waits for an archive worker; False when its key or its id was used before.

    `due_at` leaves the caller `redispatch_s` to deliver the first message itself.
    """

    def work(session: Session) -> None:
        now = _now(session)
        if key:  # one whose 24 hours are over may be used again
            old = BatchRow.created_at <= now - IDEMPOTENCY_S * SECOND
            _set(session, (BatchRow.key_sha256 == key.key_sha256, old), key_sha256=None)
        session.execute(
            insert(BatchRow).values(
                status=BatchStatus.RECEIVING.value,
                created_at=now,
                due_at=now + int(redispatch_s * SECOND),
                **(vars(key) if key else {}),
                **vars(new),
            )
        )
        if by:
            audit.add(session, by, "submit", [new.id])

    try:
        db.write(work)
    except IntegrityError:
        return False
    return True


def repeated(db: Database, key: Idempotency) -> str | None:
    """The batch that this key made within 24 hours, if any.

    Raises: IdempotencyConflict if it was made by a request with other content
    """

    def work(session: Session) -> BatchRow | None:
        fresh = BatchRow.created_at > now_us() - IDEMPOTENCY_S * SECOND
        return session.scalar(select(BatchRow).where(BatchRow.key_sha256 == key.key_sha256, fresh))

    row = db.read(work)
    if row and row.content_sha256 != key.content_sha256:
        raise IdempotencyConflict()
    return row.id if row else None


def claim(db: Database, batch_id: str, *, lease_s: float, max_attempts: int) -> BatchRow | None:
    """Take a batch whose archive waits to be read; None when somebody else has it, or it needs no reading.

    A claim that was lost without a checkpoint since counts as a failure; past the cap the batch gets the
    error, and is not handed out again.
    """
    claim_id = new_id()

    def work(session: Session) -> BatchRow | None:
        free = or_(BatchRow.claim_id.is_(None), BatchRow.lease_until < now_us())
        receiving = BatchRow.status == BatchStatus.RECEIVING.value
        found = session.scalar(
            select(BatchRow)
            .where(BatchRow.id == batch_id, receiving, free, archives_unpaused())
            .with_for_update()
        )
        if found is None:
            return None
        until = _now(session) + int(lease_s * SECOND)
        found.failures += found.claim_id is not None
        found.claim_id, found.lease_until, found.due_at = claim_id, until, until
        session.flush()
        return found

    row = db.write(work)
    if row is not None and row.failures >= max_attempts:
        end_reading(db, batch_id, claim_id, AttemptsExhausted("The archive ended its worker each time."))
        return None
    return row


def heartbeat(db: Database, batch_id: str, claim_id: str, lease_s: float) -> bool:
    """Extend the lease; False when the batch was canceled, or is somebody else's by now."""
    until = now_us() + int(lease_s * SECOND)
    return db.write(lambda s: _set(s, _held(batch_id, claim_id), lease_until=until, due_at=until)) > 0


def expect(db: Database, batch_id: str, claim_id: str, entries: int) -> None:
    """Note how many entries there are, as the first pass counted them. Raises: StaleAttempt"""
    if not db.write(lambda s: _set(s, _held(batch_id, claim_id), entries=entries)):
        raise StaleAttempt()


def accept(
    db: Database,
    batch_id: str,
    claim_id: str,
    new: Sequence[NewJob],
    rejected: Sequence[NewRejected],
    entry: int,
) -> None:
    """Jobs, rejected entries and the checkpoint after them, in one transaction.

    Raises: StaleAttempt when the claim is lost or the batch canceled; then nothing was written
    """

    def work(session: Session) -> None:
        held = _set(
            session,
            _held(batch_id, claim_id),
            entry=entry,
            failures=0,
            accepted=BatchRow.accepted + len(new),
            rejected=BatchRow.rejected + len(rejected),
            version=BatchRow.version + 1,
        )
        if not held:
            raise StaleAttempt()
        jobs.insert_many(session, new)
        if rejected:
            session.execute(insert(REJECTED), [{"batch_id": batch_id} | vars(one) for one in rejected])

    db.write(work)


def release(db: Database, batch_id: str, claim_id: str, pause_s: float = 0.0) -> None:
    """Give a batch back, to go on at its checkpoint later; not counted as a failure."""
    due = now_us() + int(pause_s * SECOND)
    db.write(lambda s: _set(s, _held(batch_id, claim_id), claim_id=None, lease_until=None, due_at=due))


def end_reading(
    db: Database, batch_id: str, claim_id: str, error: ServiceError | None, sha256: str | None = None
) -> bool:
    """The archive's end, or with an error the place where it is broken; False when the claim is lost.

    `sha256` is the archive's, if reading it has told.
    """
    values: dict[str, Any] = {"sha256": sha256} if sha256 else {}
    values |= {
        "status": batch_target(BatchEvent.READ).value,
        "read_at": now_us(),
        "claim_id": None,
        "lease_until": None,
        "version": BatchRow.version + 1,
    }
    if error:
        values |= {"error_slug": error.slug, "error_detail": error.detail}
    return db.write(lambda s: _set(s, _held(batch_id, claim_id), **values)) > 0


def due(db: Database, redispatch_s: float, limit: int = 100) -> list[str]:
    """Batches whose archive waits for a worker, or lost it; each is due again after `redispatch_s`."""

    def work(session: Session) -> list[str]:
        ids = session.scalars(
            select(BatchRow.id)
            .where(
                BatchRow.status == BatchStatus.RECEIVING.value,
                BatchRow.due_at <= now_us(),
                archives_unpaused(),
            )
            .order_by(BatchRow.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        ).all()
        _set(session, (BatchRow.id.in_(ids),), due_at=now_us() + int(redispatch_s * SECOND))
        return list(ids)

    return db.write(work)


def unsettled(db: Database) -> list[str]:
    """Batches that `settle` and `cancel_jobs` have something to do for, the oldest first."""
    running = BatchRow.status == BatchStatus.RUNNING.value
    canceled = (BatchRow.status == BatchStatus.CANCELED.value) & BatchRow.completed_at.is_(None)
    query = select(BatchRow.id).where(running | canceled).order_by(BatchRow.id)
    return list(db.read(lambda session: session.scalars(query).all()))


def settle(db: Database, batch_ids: Iterable[str]) -> dict[str, int]:
    """End those batches of which no job is unfinished: batch id to its new version.

    Whoever records the last job looks after its commit, so that of two who end the last two one sees both.
    """
    ended = {}
    for batch_id in sorted(set(batch_ids)):
        if version := db.write(partial(_settle, batch_id=batch_id)):
            ended[batch_id] = version
    return ended


def _settle(session: Session, batch_id: str) -> int | None:
    left = exists().where(JobRow.batch_id == batch_id, JobRow.status.in_(UNFINISHED))
    if session.scalar(select(left)):
        return None
    broken = BatchRow.error_slug.is_not(None)
    moves = (
        (batch_sources(BatchEvent.COMPLETE), ~broken, batch_target(BatchEvent.COMPLETE)),
        (batch_sources(BatchEvent.FAIL), broken, batch_target(BatchEvent.FAIL)),
        ((BatchStatus.CANCELED,), BatchRow.completed_at.is_(None), BatchStatus.CANCELED),
    )
    for found_in, condition, status in moves:
        where = (BatchRow.id == batch_id, BatchRow.status.in_(found_in), condition)
        values = {"status": status.value, "completed_at": now_us(), "version": BatchRow.version + 1}
        if _set(session, where, **values):
            return session.scalar(select(BatchRow.version).where(BatchRow.id == batch_id))
    return None


def cancel(db: Database, batch_id: str) -> bool:
    """Stop a batch that has not ended; False when it has, or when there is none. `cancel_jobs` follows."""
    found_in = BatchRow.status.in_(batch_sources(BatchEvent.CANCEL))
    values: dict[str, Any] = {"status": batch_target(BatchEvent.CANCEL).value, "claim_id": None}
    values |= {"lease_until": None, "version": BatchRow.version + 1}
    return db.write(lambda s: _set(s, (BatchRow.id == batch_id, found_in), **values)) > 0


def cancel_jobs(db: Database, batch_id: str) -> dict[str, int]:
    """One step: cancel up to 500 unfinished jobs of a canceled batch, job id to new version; {} when done."""
    canceled = exists().where(BatchRow.id == batch_id, BatchRow.status == BatchStatus.CANCELED.value)
    if not db.read(lambda session: session.scalar(select(canceled))):
        return {}
    return jobs.end(db, Event.CANCEL, JobRow.batch_id == batch_id)


def erase(db: Database, batch_id: str, by: Actor) -> bool:
    """Forget what an ended batch was about, its rejected entries too; its jobs are erased one by one."""
    ended = (BatchRow.id == batch_id, BatchRow.completed_at.is_not(None), BatchRow.erased_at.is_(None))

    def work(session: Session) -> bool:
        values: dict[str, Any] = dict.fromkeys(("filename", "sha256", "error_detail", "key_sha256"))
        values["defaults"] = {}
        if not _set(session, ended, **values, erased_at=now_us(), version=BatchRow.version + 1):
            return False
        session.execute(delete(RejectedRow).where(RejectedRow.batch_id == batch_id))
        audit.add(session, by, "erase", [batch_id])
        return True

    return db.write(work)


def forget_keys(db: Database) -> int:
    """Drop idempotency keys older than 24 hours."""
    old = (BatchRow.key_sha256.is_not(None), BatchRow.created_at < now_us() - IDEMPOTENCY_S * SECOND)
    return db.write(lambda session: _set(session, old, key_sha256=None))


def counts(session: Session, batch_ids: Sequence[str]) -> dict[str, Counts]:
    """Where the jobs of each batch stand; out of one index, so that other batches' jobs cost nothing."""
    found: dict[str, dict[str, int]] = {batch_id: {} for batch_id in batch_ids}
    kept = select(BatchRow.id, BatchRow.rejected).where(BatchRow.id.in_(batch_ids))
    for row in session.execute(kept):
        found[row.id]["rejected"] = row.rejected
    # Whoever records a success leaves its moment in `due_at`, which stands in the index that is read anyway.
    recent = func.sum(case((JobRow.due_at > now_us() - int(RECENT_S * SECOND), 1), else_=0))
    query = (
        select(JobRow.batch_id, JobRow.status, JobRow.stage, func.count(), recent)
        .where(JobRow.batch_id.in_(batch_ids))
        .group_by(JobRow.batch_id, JobRow.status, JobRow.stage)
    )
    for owner, status, stage, number, lately in session.execute(query):
        # To a client `queued` means never started; one that waits for a later stage was.
        name = "running" if status == Status.QUEUED.value and stage != first_stage() else status
        numbers = found[owner or ""]
        numbers[name] = numbers.get(name, 0) + number
        if status == Status.SUCCEEDED.value:
            numbers["lately"] = numbers.get("lately", 0) + int(lately)
    return {one: Counts(**numbers) for one, numbers in found.items()}


def eta_s(row: BatchRow, now: Counts, clock_us: int) -> float | None:
    """Seconds until the last job ends, by the throughput of the last minute; None without any so far.

    When nothing ended lately, by the throughput since the batch was made. `clock_us` is the database's now.
    """
    if row.completed_at is not None:
        return None
    done = now.ended
    elapsed_s = (clock_us - row.created_at) / SECOND
    if done < 1 or elapsed_s <= 0:
        return None
    left = max(row.entries or 0, now.total) - done
    if now.lately:
        return round(min(elapsed_s, RECENT_S) * left / now.lately, 1)
    return round(elapsed_s * left / done, 1)


def rows(session: Session, batch_id: str, after: int = -1, limit: int = 500) -> Sequence[JobRow]:
    """The jobs of a batch in the archive's order, from the entry behind `after`."""
    query = select(JobRow).where(JobRow.batch_id == batch_id, JobRow.entry > after)
    return session.scalars(query.order_by(JobRow.entry).limit(limit)).all()


def rejected(session: Session, batch_id: str, after: int = -1, limit: int = 500) -> Sequence[RejectedRow]:
    """The rejected entries of a batch in the archive's order, from the entry behind `after`."""
    query = select(RejectedRow).where(RejectedRow.batch_id == batch_id, RejectedRow.entry > after)
    return session.scalars(query.order_by(RejectedRow.entry).limit(limit)).all()


def _held(batch_id: str, claim_id: str) -> tuple[Any, ...]:
    receiving = BatchRow.status == BatchStatus.RECEIVING.value
    return (BatchRow.id == batch_id, BatchRow.claim_id == claim_id, receiving)


def _set(session: Session, where: Sequence[Any], **values: Any) -> int:
    """Rows that one conditional UPDATE moved."""
    moved = session.execute(
        update(BatchRow).where(*where).values(**values).execution_options(synchronize_session=False)
    )
    return int(cast(Any, moved).rowcount)


def _now(session: Session) -> int:
    now: int | None = session.scalar(select(now_us()))
    assert now is not None
    return now
