"""The only module that writes webhooks: who wants to hear of a job, what is to be sent, and how it went.

A delivery is made in one transaction with the note that it was made, and sent by whoever claims it: at least once,
and with the same id each time, by which a receiver knows what it has seen.
"""

import base64
import hashlib
import hmac
import random
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import ColumnElement, delete, exists, insert, or_, select, update
from sqlalchemy.orm import Session

from shared.database import SECOND, Database, now_us
from shared.errors import NotFound
from shared.ids import new_id
from shared.lifecycle import TERMINAL, Event
from shared.tables import AttemptRow, DeliveryRow, DeliveryTryRow, JobRow, WebhookRow

# Pauses after the first nine tries: the tenth comes two hours after the first.
PAUSES_S = (5.0, 15.0, 45.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3115.0)
TRIES = len(PAUSES_S) + 1
JITTER = 0.1  # a pause is up to this part shorter, so that receivers are not hit by all at once
LEASE_S = 60.0  # a delivery whose sender died is sent by another after this; longer than a try takes
AT_ONCE = 100
STAGE, COMPLETED = "stage", "completed"


@dataclass(frozen=True)
class Due:
    """A delivery that this process has claimed."""

    id: str
    job_id: str
    owner: str
    url: str
    event: str
    tries: int  # before this one


@dataclass(frozen=True)
class Try:
    """How one try went; `status` is the receiver's, None when there was no answer."""

    delivered: bool
    status: int | None
    error: str | None
    took_s: float
    final: bool = False  # the receiver wants no more of it


def secret_of(server_secret: str, owner: str) -> str:
    """An owner's signing secret, derived so that none is stored and no owner can sign as another."""
    mixed = hmac.new(server_secret.encode(), f"webhook {owner}".encode(), hashlib.sha256).digest()
    return "whsec_" + base64.b64encode(mixed).decode()


def prepare(db: Database) -> int:
    """Make deliveries of what has happened to jobs since the last look; how many."""
    advanced = exists().where(
        AttemptRow.job_id == WebhookRow.job_id,
        AttemptRow.outcome == Event.ADVANCE.value,
        AttemptRow.number > WebhookRow.seen,
    )
    moved = or_(JobRow.status.in_(TERMINAL), WebhookRow.stages.is_(True) & advanced)
    statement = (
        select(WebhookRow.job_id)
        .join(JobRow, JobRow.id == WebhookRow.job_id)
        .where(WebhookRow.closed_at.is_(None), moved)
        .limit(AT_ONCE)
    )
    ids = db.read(lambda session: session.scalars(statement).all())
    return sum(db.write(lambda session, job_id=job_id: _prepare(session, job_id)) for job_id in ids)  # type: ignore[misc]


def _prepare(session: Session, job_id: str) -> int:
    hook = session.scalar(select(WebhookRow).where(WebhookRow.job_id == job_id).with_for_update())
    if hook is None or hook.closed_at is not None:
        return 0  # somebody was first
    made = 0
    if hook.stages:
        advanced = AttemptRow.outcome == Event.ADVANCE.value
        wanted = select(AttemptRow.number).where(AttemptRow.job_id == job_id, advanced)
        for number in session.scalars(
            wanted.where(AttemptRow.number > hook.seen).order_by(AttemptRow.number)
        ):
            _add(session, job_id, STAGE)
            hook.seen, made = number, made + 1
    if session.scalar(select(JobRow.status).where(JobRow.id == job_id)) in TERMINAL:
        _add(session, job_id, COMPLETED)
        hook.closed_at, made = session.scalar(select(now_us())), made + 1
    return made


def _add(session: Session, job_id: str, event: str) -> str:
    delivery_id = new_id()
    row = {"id": delivery_id, "job_id": job_id, "event": event, "status": "waiting", "tries": 0}
    session.execute(insert(DeliveryRow).values(**row, created_at=now_us(), due_at=now_us()))
    return delivery_id


def replay(db: Database, job_id: str) -> str:
    """Send what the job is now once more, as a delivery of its own.

    Raises: NotFound when the job has no webhook
    """

    def work(session: Session) -> str:
        hook = session.get(WebhookRow, job_id)
        if hook is None:
            raise NotFound("This job has no webhook.")
        return _add(session, job_id, COMPLETED if hook.closed_at is not None else STAGE)

    return db.write(work)


def claim(db: Database, most: int) -> list[Due]:
    """Take deliveries that are due; nobody else sends them for LEASE_S."""

    def work(session: Session) -> list[Due]:
        rows = session.execute(
            select(DeliveryRow, WebhookRow.url, JobRow.owner)
            .join(WebhookRow, WebhookRow.job_id == DeliveryRow.job_id)
            .join(JobRow, JobRow.id == DeliveryRow.job_id)
            .where(DeliveryRow.status == "waiting", DeliveryRow.due_at <= now_us())
            .order_by(DeliveryRow.due_at)
            .limit(most)
            .with_for_update(of=DeliveryRow, skip_locked=True)
        ).all()
        for row, _, _ in rows:
            row.due_at = cast(Any, _after(LEASE_S))
        return [Due(row.id, row.job_id, owner, url, row.event, row.tries) for row, url, owner in rows]

    return db.write(work)


def note(db: Database, due: Due, went: Try) -> None:
    """Write down how a try went, and when the next one comes, if any."""
    number = due.tries + 1
    values: dict[str, Any] = {"tries": number}
    if went.delivered:
        values |= {"status": "delivered", "ended_at": now_us()}
    elif went.final or number >= TRIES:
        values |= {"status": "failed", "ended_at": now_us()}
    else:
        values["due_at"] = _after(PAUSES_S[number - 1] * random.uniform(1 - JITTER, 1))

    def work(session: Session) -> None:
        unended = (DeliveryRow.id == due.id, DeliveryRow.status == "waiting", DeliveryRow.tries == due.tries)
        done = session.execute(update(DeliveryRow).where(*unended).values(**values))
        if cast(Any, done).rowcount:  # else another sender was faster, or the job was erased
            session.execute(
                insert(DeliveryTryRow).values(
                    delivery_id=due.id,
                    number=number,
                    at=now_us(),
                    took_us=int(went.took_s * SECOND),
                    status=went.status,
                    error=went.error,
                )
            )

    db.write(work)


def log_of(db: Database, job_id: str) -> list[tuple[DeliveryRow, list[DeliveryTryRow]]]:
    """A job's deliveries with their tries, the newest first."""

    def work(session: Session) -> list[tuple[DeliveryRow, list[DeliveryTryRow]]]:
        mine = select(DeliveryRow).where(DeliveryRow.job_id == job_id)
        rows = session.scalars(mine.order_by(DeliveryRow.id.desc()).limit(AT_ONCE)).all()
        ids = [row.id for row in rows]
        tried = select(DeliveryTryRow).where(DeliveryTryRow.delivery_id.in_(ids))
        tries = session.scalars(tried.order_by(DeliveryTryRow.number)).all()
        return [(row, [one for one in tries if one.delivery_id == row.id]) for row in rows]

    return db.read(work)


def forget(session: Session, job_id: str) -> None:
    """Everything of a job that is erased: an address may name a person too."""
    ids = select(DeliveryRow.id).where(DeliveryRow.job_id == job_id).scalar_subquery()
    session.execute(delete(DeliveryTryRow).where(DeliveryTryRow.delivery_id.in_(ids)))
    session.execute(delete(DeliveryRow).where(DeliveryRow.job_id == job_id))
    session.execute(delete(WebhookRow).where(WebhookRow.job_id == job_id))


def _after(seconds: float) -> ColumnElement[int]:
    return now_us() + int(seconds * SECOND)
