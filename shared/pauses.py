"""Pauses: pipelines and lanes whose jobs wait, because whoever operates this wants it so.

A paused job is not claimed and not dispatched; it may be submitted, canceled, and looked at. What a worker has claimed
before goes on to the end of its stage.
"""

from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import ColumnElement, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shared.database import Database, now_us
from shared.tables import JobRow, PauseRow

ALL = "all"  # every pipeline, or every lane


def unpaused() -> ColumnElement[bool]:
    """Of a job: no pause covers it."""
    covering = select(PauseRow.pipeline).where(
        or_(PauseRow.pipeline == ALL, PauseRow.pipeline == JobRow.pipeline),
        or_(PauseRow.lane == ALL, PauseRow.lane == JobRow.lane),
    )
    return ~covering.correlate(JobRow).exists()


def paused_pipelines(session: Session, lane: str) -> frozenset[str]:
    """Whose jobs of this lane wait; ALL is among them when everybody's do."""
    found = select(PauseRow.pipeline).where(PauseRow.lane.in_((ALL, lane)))
    return frozenset(session.scalars(found))


def archives_unpaused() -> ColumnElement[bool]:
    """Archives hold jobs of any pipeline, so that only a pause of all of them keeps one from being read."""
    return (
        ~select(PauseRow.pipeline).where(PauseRow.pipeline == ALL, PauseRow.lane.in_((ALL, "bulk"))).exists()
    )


def add(db: Database, pipeline: str, lane: str, note: str | None) -> PauseRow:
    """Pause, or change the note of what is paused already."""
    this = (PauseRow.pipeline == pipeline, PauseRow.lane == lane)

    def work(session: Session) -> PauseRow:
        changed = session.execute(update(PauseRow).where(*this).values(note=note))
        if not cast(Any, changed).rowcount:
            session.execute(
                insert(PauseRow).values(pipeline=pipeline, lane=lane, note=note, created_at=now_us())
            )
        return session.execute(select(PauseRow).where(*this)).scalar_one()

    try:
        return db.write(work)
    except IntegrityError:  # somebody else paused it a moment ago
        return db.write(work)


def lift(db: Database, pipeline: str, lane: str) -> bool:
    """False when there was no such pause. Its jobs go on within a round of the sweeper, or by `jobs.hurry` at once."""
    this = delete(PauseRow).where(PauseRow.pipeline == pipeline, PauseRow.lane == lane)
    return bool(db.write(lambda session: cast(Any, session.execute(this)).rowcount))


def every(db: Database) -> Sequence[PauseRow]:
    """The oldest first."""
    oldest = select(PauseRow).order_by(PauseRow.created_at, PauseRow.pipeline, PauseRow.lane)
    return db.read(lambda session: session.scalars(oldest).all())
