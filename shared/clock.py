"""What a clock that was set back leaves in the future: moments that would keep jobs waiting until it gets there again.

A clock that is set forward only ends leases early, which costs an attempt.
"""

from typing import Any

from sqlalchemy import ColumnElement, and_, exists, or_, select, update
from sqlalchemy.orm import Session

from shared.batch_life import BatchStatus
from shared.database import SECOND, Database, now_us
from shared.jobs import LONGEST_DOUBLING
from shared.lifecycle import Status
from shared.queue import LANES
from shared.settings import Settings
from shared.tables import BatchRow, JobRow

LONGEST_PAUSE_S = 300.0  # before a retry
SLACK_S = 1.0


def bring_back(db: Database, settings: Settings) -> int:
    """Bring every moment that no clock could have given into the present; safe to run at any time.

    What an honest clock gave is not touched: a pause, a lease and a dispatch each reach only so far.
    """
    repairs = _repairs(settings)

    def needed(session: Session) -> bool:
        return any(session.scalar(select(exists().where(where))) for _, where, _ in repairs)

    def work(session: Session) -> int:
        return sum(_apply(session, *repair) for repair in repairs)

    # Mostly there is nothing to do, and a look takes no lock.
    return db.write(work) if db.read(needed) else 0


def _repairs(settings: Settings) -> list[tuple[type[Any], ColumnElement[bool], dict[str, Any]]]:
    """Table, condition and new values, each condition by an index."""
    lease = now_us() + _us(settings.lease_s)
    doubled = settings.redispatch_s * 2**LONGEST_DOUBLING
    impossible = or_(
        JobRow.created_at > now_us(),
        JobRow.not_before > now_us() + _us(LONGEST_PAUSE_S + SLACK_S),
        JobRow.due_at > now_us() + _us(max(doubled, LONGEST_PAUSE_S) + SLACK_S),
    )
    waiting = and_(JobRow.lane.in_(LANES), JobRow.status == Status.QUEUED.value, JobRow.due_at > now_us())
    held = and_(JobRow.status == Status.RUNNING.value, JobRow.lease_until > lease + _us(SLACK_S))
    receiving = BatchRow.status == BatchStatus.RECEIVING.value
    longest = max(settings.lease_s, settings.redispatch_s) + SLACK_S
    return [
        (JobRow, and_(waiting, impossible), {"not_before": now_us(), "due_at": now_us()}),
        (JobRow, held, {"lease_until": lease}),
        (BatchRow, and_(receiving, BatchRow.lease_until > lease + _us(SLACK_S)), {"lease_until": lease}),
        (BatchRow, and_(receiving, BatchRow.due_at > now_us() + _us(longest)), {"due_at": now_us()}),
    ]


def _apply(session: Session, table: type[Any], where: ColumnElement[bool], values: dict[str, Any]) -> int:
    found = session.execute(
        update(table).where(where).values(**values).execution_options(synchronize_session=False)
    )
    return int(found.rowcount)  # type: ignore[attr-defined]


def _us(seconds: float) -> int:
    return int(seconds * SECOND)
