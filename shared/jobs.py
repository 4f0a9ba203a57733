"""The only module that writes jobs: every move of a job is one conditional UPDATE here.

A statement that matches fewer rows than it names means that somebody was first. That is no error:
the broker delivers twice, workers come back from the dead, people cancel. What was lost is left alone.
"""

from collections.abc import Iterable, Sequence
from typing import Any, cast

from sqlalchemy import Table, bindparam, case, delete, func, insert, literal, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shared import audit, webhooks
from shared.audit import Actor
from shared.database import SECOND, Database, now_us
from shared.errors import AttemptsExhausted, NotFound, fault_slugs
from shared.idempotency import Idempotency, keep_key
from shared.ids import new_id
from shared.job_types import Claim, NewArtifact, NewJob, Outcome
from shared.lifecycle import TERMINAL, Event, Status, sources, target
from shared.pauses import ALL, unpaused
from shared.queue import LANES
from shared.schemas import Warning
from shared.tables import ArtifactRow, AttemptRow, IdempotencyRow, JobRow, ReviewRow, WebhookRow

STEP = 500  # jobs that one transaction ends or makes due
LONGEST_DOUBLING = 6  # a queued job is dispatched again at least every 2**6 x redispatch_s

SPARED = "explain"  # the stage whose failure is a warning
LOST_EXPLANATION = Warning(
    code="explanation_failed", detail="There is no explanation of the findings: every attempt at it was lost."
)

JOBS = cast(Table, JobRow.__table__)
ATTEMPTS = cast(Table, AttemptRow.__table__)
ARTIFACTS = cast(Table, ArtifactRow.__table__)


def _beside(column: Any) -> Any:
    """A column as a condition on rows that are found by another one.

    Hides it from the planner: SQLite would walk the whole queue to claim 64 ids of it, and MariaDB would
    lock through two indexes in two orders, which is how deadlocks come about.
    """
    return func.nullif(column, "")


def create(
    db: Database,
    new: NewJob,
    redispatch_s: float,
    idempotency: Idempotency | None = None,
    by: Actor | None = None,
) -> bool:
    """Insert a queued job with its artifacts; False when another request with the same key was first.

    Or, of a message, when another one was. `due_at` leaves the caller `redispatch_s` to deliver it the first time
    itself. The audit log says `by` whom.

    Raises: NotFound when a message's job was erased meanwhile
    """
    apart = ("artifacts", "expires_in_s", "webhook")
    columns = {name: value for name, value in vars(new).items() if name not in apart}

    def work(session: Session) -> None:
        if new.message_of:
            _lock_unerased(session, new.message_of)
        now = session.scalar(select(now_us()))
        assert now is not None
        deadline = None if new.expires_in_s is None else now + int(new.expires_in_s * SECOND)
        times = {"created_at": now, "not_before": now, "due_at": now + int(redispatch_s * SECOND)}
        session.execute(
            insert(JobRow).values(status=Status.QUEUED.value, deadline_at=deadline, **times, **columns)
        )
        _add_artifacts(session, ((new.id, artifact) for artifact in new.artifacts))
        if new.webhook:
            session.execute(insert(WebhookRow).values(job_id=new.id, **vars(new.webhook)))
        if by:
            audit.add(session, by, "submit", [new.id])
            audit.add(session, by, "message", [new.message_of] if new.message_of else [])
        if idempotency:
            keep_key(session, idempotency, new.id, now)

    try:
        db.write(work)
    except IntegrityError:
        if idempotency is None and new.message_of is None:
            raise
        return False
    return True


def _lock_unerased(session: Session, job_id: str) -> None:
    """Until the commit, so that nothing is added to a job that is being erased."""
    kept = select(JobRow.id).where(JobRow.id == job_id, JobRow.erased_at.is_(None)).with_for_update()
    if session.scalar(kept) is None:
        raise NotFound("The job was erased.")


def insert_many(session: Session, new: Sequence[NewJob]) -> None:
    """Insert queued jobs of an archive, with their artifacts; they are in line for the bulk window at once."""
    if not new:
        return
    now = session.scalar(select(now_us()))
    assert now is not None
    rows = [_queued(one, now) for one in new]
    # A column that is null for all of them need not be named: half of what an INSERT costs is its values.
    empty = set(rows[0]).difference(*({name for name in row if row[name] is not None} for row in rows))
    for row in rows:
        for name in empty:
            del row[name]
    session.connection().execute(insert(JOBS), rows)
    _add_artifacts(session, ((one.id, artifact) for one in new for artifact in one.artifacts))


def _queued(new: NewJob, now: int) -> dict[str, Any]:
    row = vars(new) | {"status": Status.QUEUED.value, "created_at": now, "not_before": now, "due_at": now}
    row["deadline_at"] = None if new.expires_in_s is None else now + int(new.expires_in_s * SECOND)
    del row["artifacts"], row["expires_in_s"], row["webhook"]
    return row


def claim(
    db: Database, ids: Sequence[str], stage: str, worker: str, *, lease_s: float, limit_s: float
) -> Claim:
    """Take those of `ids` that wait for `stage`; fewer than asked, or none, when somebody was first."""
    claim_id = new_id()

    def work(session: Session) -> Claim:
        won = session.execute(
            update(JobRow)
            .where(
                JobRow.id.in_(sorted(set(ids))),
                _beside(JobRow.status).in_(sources(Event.CLAIM)),
                _beside(JobRow.stage) == stage,
                JobRow.not_before <= now_us(),
                or_(JobRow.deadline_at.is_(None), JobRow.deadline_at > now_us()),
                unpaused(),
            )
            .values(
                status=target(Event.CLAIM).value,
                claim_id=claim_id,
                lease_until=now_us() + int(min(lease_s, limit_s) * SECOND),
                limit_at=now_us() + int(limit_s * SECOND),
                attempt=JobRow.attempt + 1,
                started_at=func.coalesce(JobRow.started_at, now_us()),
                version=JobRow.version + 1,
            )
            .execution_options(synchronize_session=False)
        )
        if not won.rowcount:  # type: ignore[attr-defined]
            return Claim(claim_id, stage, ())
        rows = session.scalars(select(JobRow).where(JobRow.claim_id == claim_id).order_by(JobRow.id)).all()
        session.execute(
            insert(ATTEMPTS).values(started_at=now_us(), stage=stage, claim_id=claim_id, worker=worker),
            [{"job_id": row.id, "number": row.attempt} for row in rows],
        )
        return Claim(claim_id, stage, tuple(rows))

    return db.write(work)


def heartbeat(db: Database, claim_ids: Iterable[str], lease_s: float) -> dict[str, list[str]]:
    """Extend leases, never past the stage's limit; answers with the ids that each claim still holds."""
    named = list(claim_ids)

    def work(session: Session) -> dict[str, list[str]]:
        running = _beside(JobRow.status) == Status.RUNNING.value
        held = session.execute(
            select(JobRow.claim_id, JobRow.id).where(JobRow.claim_id.in_(named), running)
        ).all()
        ids = sorted(row.id for row in held)
        # What is locked is being recorded or reaped at this moment, and needs no longer lease.
        ours = session.scalars(
            select(JobRow.id)
            .where(JobRow.id.in_(ids), _beside(JobRow.claim_id).in_(named), running)
            .with_for_update(skip_locked=True)
        ).all()
        wanted = now_us() + int(lease_s * SECOND)
        session.execute(
            update(JobRow)
            .where(JobRow.id.in_(ours))
            .values(lease_until=case((wanted < JobRow.limit_at, wanted), else_=JobRow.limit_at))
            .execution_options(synchronize_session=False)
        )
        still: dict[str, list[str]] = {}
        for claim_id, job_id in held:
            still.setdefault(claim_id or "", []).append(job_id)
        return still

    return db.write(work) if named else {}


def record(
    db: Database, outcomes: Sequence[Outcome], *, max_attempts: int, redispatch_s: float
) -> dict[str, int]:
    """Write what attempts found, all in one transaction: job id to its new version.

    Jobs that the claim no longer holds are missing from the answer, and nothing of them was written.
    A RETRY past `max_attempts` becomes a FAIL with its own error.
    """

    def work(session: Session) -> dict[str, int]:
        now = session.scalar(select(now_us()))
        assert now is not None
        held = _lock(session, outcomes)
        ours = [outcome for outcome in outcomes if (outcome.job_id, outcome.claim_id) in held]
        updates: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for outcome in ours:
            row = held[outcome.job_id, outcome.claim_id]
            event, columns = _columns(outcome, row, now, max_attempts, redispatch_s)
            keys = {"key_id": outcome.job_id, "key_claim": outcome.claim_id, "key_event": event.value}
            updates.setdefault(tuple(columns), []).append(columns | keys)
        for names, rows in updates.items():
            statement = (
                update(JOBS)
                .where(JOBS.c.id == bindparam("key_id"), _beside(JOBS.c.claim_id) == bindparam("key_claim"))
                .values({name: bindparam(name) for name in names})
            )
            session.connection().execute(statement, rows)
        _end_attempts(session, [row for rows in updates.values() for row in rows], now, ours)
        _add_artifacts(session, ((o.job_id, artifact) for o in ours for artifact in o.artifacts))
        return {row["key_id"]: row["version"] for rows in updates.values() for row in rows}

    return db.write(work) if outcomes else {}


def _lock(session: Session, outcomes: Sequence[Outcome]) -> dict[tuple[str, str], Any]:
    """The rows that still run, locked until the commit, by id and the claim that holds them.

    By both, since a group of outcomes may hold a zombie's and its successor's for the same job.
    """
    ids = sorted({outcome.job_id for outcome in outcomes})
    rows = session.execute(
        select(JOBS.c.id, JOBS.c.claim_id, JOBS.c.version, JOBS.c.failures, JOBS.c.attempt, JOBS.c.stage)
        .where(JOBS.c.id.in_(ids), _beside(JOBS.c.status) == Status.RUNNING.value)
        .with_for_update()
    )
    return {(row.id, row.claim_id): row for row in rows}


def _columns(
    outcome: Outcome, row: Any, now: int, max_attempts: int, redispatch_s: float
) -> tuple[Event, dict[str, Any]]:
    """The event as it counts, and what it does to the row."""
    event, error = outcome.event, outcome.error
    failures = row.failures + (event is Event.RETRY)
    if event is Event.RETRY and failures >= max_attempts:
        event = Event.FAIL
    waits = now + int(outcome.pause_s * SECOND)
    personal = outcome.lane == "interactive"
    columns = outcome.values | {
        "status": target(event).value,
        "claim_id": None,
        "lease_until": None,
        "limit_at": None,
        "version": row.version + 1,
        "failures": 0 if event is Event.ADVANCE else failures,
        "not_before": waits if event in (Event.RETRY, Event.RELEASE) else now,  # RELEASE with a pause: parked
        # After ADVANCE the worker dispatches itself, people's jobs at least; an archive's wait for the window.
        # After RETRY and RELEASE the sweeper does, when due.
        "due_at": now + int(redispatch_s * SECOND) if event is Event.ADVANCE and personal else waits,
        "dispatches": 0,
        "stage": outcome.stage or row.stage,
        "completed_at": now if target(event) in TERMINAL else None,
    }
    if event is Event.ADVANCE:
        columns["lost"] = 0
    if event is Event.FAIL and error is None:
        error = AttemptsExhausted()
    if error:
        columns |= {"error_slug": error.slug, "error_detail": error.detail}
    elif event in (Event.ADVANCE, Event.FINISH):
        # What an earlier attempt stumbled over must not be taken for the next stage's error.
        columns |= {"error_slug": None, "error_detail": None}
    return event, columns


def _end_attempts(session: Session, rows: list[dict[str, Any]], now: int, outcomes: list[Outcome]) -> None:
    if not rows:
        return
    slugs = {outcome.job_id: outcome.error.slug if outcome.error else None for outcome in outcomes}
    session.connection().execute(
        update(ATTEMPTS)
        .where(
            ATTEMPTS.c.job_id == bindparam("key_id"),
            ATTEMPTS.c.claim_id == bindparam("key_claim"),
            ATTEMPTS.c.ended_at.is_(None),
        )
        .values(ended_at=now, outcome=bindparam("key_event"), error=bindparam("key_error")),
        [
            {name: row[name] for name in ("key_id", "key_claim", "key_event")}
            | {"key_error": slugs[row["key_id"]]}
            for row in rows
        ],
    )


def _add_artifacts(session: Session, artifacts: Iterable[tuple[str, NewArtifact]]) -> None:
    rows = [{"job_id": job_id} | vars(artifact) for job_id, artifact in artifacts]
    if rows:
        session.connection().execute(insert(ARTIFACTS), rows)


def cancel(db: Database, job_id: str) -> bool:
    """Stop a job that has not ended; False when it has, or when there is none."""
    return job_id in end(db, Event.CANCEL, JobRow.id == job_id)


def expire(db: Database) -> dict[str, int]:
    """End every job whose deadline has passed: job id to its new version."""
    return end(db, Event.EXPIRE, JobRow.deadline_at < now_us(), skip_locked=True)


def end(db: Database, event: Event, condition: Any, *, skip_locked: bool = False) -> dict[str, int]:
    """End up to STEP unfinished jobs by CANCEL or EXPIRE: job id to new version.

    A sweeper skips rows that somebody is writing: they come round again, and waiting makes deadlocks.
    """

    return db.write(lambda session: _end(session, event, condition, skip_locked=skip_locked))


def _end(session: Session, event: Event, condition: Any, *, skip_locked: bool = False) -> dict[str, int]:
    found = session.execute(
        select(JobRow.id, JobRow.version)
        .where(JobRow.status.in_(sources(event)), condition)
        .limit(STEP)
        .with_for_update(skip_locked=skip_locked)
    ).all()
    ids = sorted(row.id for row in found)
    if not ids:
        return {}
    session.execute(
        update(JobRow)
        .where(JobRow.id.in_(ids), _beside(JobRow.status).in_(sources(event)))
        .values(
            status=target(event).value,
            claim_id=None,
            lease_until=None,
            limit_at=None,
            completed_at=now_us(),
            version=JobRow.version + 1,
        )
        .execution_options(synchronize_session=False)
    )
    _close_attempts(session, ids, event)
    return {row.id: row.version + 1 for row in found}


def _close_attempts(session: Session, ids: list[str], event: Event) -> None:
    session.execute(
        update(AttemptRow)
        .where(AttemptRow.job_id.in_(ids), AttemptRow.ended_at.is_(None))
        .values(ended_at=now_us(), outcome=event.value)
        .execution_options(synchronize_session=False)
    )


def reap(db: Database, max_attempts: int) -> dict[str, int]:
    """End expired leases: job id to its new version. Lost jobs wait again, or fail past the cap.

    A job that is lost while it is explained has its findings and its answer: past the cap it succeeds.

    The error of an earlier attempt is kept, since it says more than that a worker fell silent.
    """

    def work(session: Session) -> dict[str, int]:
        lost = session.execute(
            select(
                JobRow.id,
                JobRow.claim_id,
                JobRow.failures,
                JobRow.error_slug,
                JobRow.version,
                JobRow.stage,
                JobRow.warnings,
            )
            .where(JobRow.status == Status.RUNNING.value, JobRow.lease_until < now_us())
            .limit(STEP)
            .with_for_update(skip_locked=True)
        ).all()
        for row in lost:
            ended = row.failures + 1 >= max_attempts
            spared = ended and row.stage == SPARED
            event = Event.FINISH if spared else Event.FAIL if ended else Event.LOSE
            values: dict[str, Any] = {
                "status": target(event).value,
                "claim_id": None,
                "lease_until": None,
                "limit_at": None,
                "failures": JobRow.failures + 1,
                "lost": JobRow.lost + 1,
                "not_before": now_us(),
                "due_at": now_us(),
                "dispatches": 0,
                "version": JobRow.version + 1,
                "completed_at": now_us() if ended else None,
            }
            if spared:
                values["warnings"] = [*(row.warnings or ()), LOST_EXPLANATION.model_dump()]
            elif ended and row.error_slug is None:
                values |= {"error_slug": AttemptsExhausted.slug, "error_detail": AttemptsExhausted().detail}
            session.execute(
                update(JobRow)
                .where(JobRow.id == row.id, _beside(JobRow.claim_id) == row.claim_id)
                .values(**values)
                .execution_options(synchronize_session=False)
            )
            _close_attempts(session, [row.id], event)
        return {row.id: row.version + 1 for row in lost}

    return db.write(work)


def due(db: Database, redispatch_s: float, limit: int = 1000) -> list[JobRow]:
    """People's queued jobs to dispatch now; each is due again after `redispatch_s`, doubling.

    Those of archives wait for the window: shared/window.py.
    """

    def work(session: Session) -> list[JobRow]:
        rows = session.scalars(
            select(JobRow)
            .where(
                JobRow.lane == "interactive",
                JobRow.status == Status.QUEUED.value,
                JobRow.due_at <= now_us(),
                unpaused(),
            )
            .order_by(JobRow.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        ).all()
        doublings = case((JobRow.dispatches < LONGEST_DOUBLING, JobRow.dispatches), else_=LONGEST_DOUBLING)
        pause = int(redispatch_s * SECOND) * literal(1).bitwise_lshift(doublings)
        session.execute(
            update(JobRow)
            .where(JobRow.id.in_([row.id for row in rows]))
            .values(due_at=now_us() + pause, dispatches=JobRow.dispatches + 1)
            .execution_options(synchronize_session=False)
        )
        return list(rows)

    return db.write(work)


def hurry(db: Database, pipeline: str, lane: str) -> int:
    """Make queued jobs due now whose message may be lost; how many. A job in a pause before a retry keeps it.

    STEP at a time, and without those that somebody is writing: they are on their way.
    """
    mine = (
        JobRow.lane.in_(LANES if lane == ALL else (lane,)),
        JobRow.status == Status.QUEUED.value,
        JobRow.due_at > now_us(),
        JobRow.not_before <= now_us(),
        *(() if pipeline == ALL else (JobRow.pipeline == pipeline,)),
    )

    def work(session: Session) -> int:
        ids = session.scalars(
            select(JobRow.id).where(*mine).limit(STEP).with_for_update(skip_locked=True)
        ).all()
        session.execute(
            update(JobRow)
            .where(JobRow.id.in_(sorted(ids)), _beside(JobRow.status) == Status.QUEUED.value)
            .values(due_at=now_us(), dispatches=0)
            .execution_options(synchronize_session=False)
        )
        return len(ids)

    hurried = 0
    while step := db.write(work):
        hurried += step
    return hurried


def faulted(
    db: Database, since_us: int, pipeline: str, lane: str, after: str, limit: int
) -> Sequence[JobRow]:
    """Single jobs that failed since then for no fault of their pictures, in the order of their ids."""
    statement = (
        select(JobRow)
        .where(
            JobRow.erased_at.is_(None),
            JobRow.completed_at >= since_us,
            JobRow.status == Status.FAILED.value,
            JobRow.error_slug.in_(fault_slugs()),
            JobRow.batch_id.is_(None),
            func.coalesce(JobRow.message_of, "") == "",  # it has no picture; whoever asked may ask again
            JobRow.id > after,
            *(() if pipeline == ALL else (JobRow.pipeline == pipeline,)),
            *(() if lane == ALL else (JobRow.lane == lane,)),
        )
        .order_by(JobRow.id)
        .limit(limit)
    )
    return db.read(lambda session: session.scalars(statement).all())


def erase(db: Database, job_id: str, by: Actor) -> bool:
    """Forget what an ended job was about, and its messages; bare rows and the audit log stay.

    False when it has not ended. A message that is still being answered is canceled.
    """
    forgotten = dict.fromkeys(
        ("question", "age", "sex", "site", "client_metadata", "filename", "entry_name", "custom_id",
         "true_label", "sha256", "findings", "grades", "segments", "warnings", "answer", "error_detail")
    )  # fmt: skip

    def work(session: Session) -> bool:
        erased = session.execute(
            update(JobRow)
            .where(JobRow.id == job_id, JobRow.status.in_(TERMINAL))
            .values(**forgotten, erased_at=now_us(), version=JobRow.version + 1)
            .execution_options(synchronize_session=False)
        )
        if not erased.rowcount:  # type: ignore[attr-defined]
            return False
        # Only now: whoever adds a message holds the job's row, so that none comes after this.
        messages = sorted(session.scalars(select(JobRow.id).where(JobRow.message_of == job_id)))
        if messages:
            _end(session, Event.CANCEL, JobRow.id.in_(messages))
            session.execute(
                update(JobRow)
                .where(JobRow.id.in_(messages))
                .values(**forgotten, erased_at=now_us(), version=JobRow.version + 1)
                .execution_options(synchronize_session=False)
            )
        gone = [job_id, *messages]
        session.execute(delete(ArtifactRow).where(ArtifactRow.job_id == job_id))
        session.execute(delete(IdempotencyRow).where(IdempotencyRow.job_id.in_(gone)))
        session.execute(delete(ReviewRow).where(ReviewRow.job_id == job_id))
        webhooks.forget(session, job_id)
        audit.add(session, by, "erase", gone)
        return True

    return db.write(work)
