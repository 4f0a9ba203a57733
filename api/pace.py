"""How fast stages go lately, to tell clients when their job may end."""

import time
from dataclasses import dataclass, field

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.database import Database
from shared.lifecycle import Event, Status
from shared.tables import AttemptRow, JobRow

RECENT = 100  # attempts
FRESH_S = 2.0


@dataclass(frozen=True)
class Speeds:
    """Mean seconds of a recent successful attempt, such attempts per second, and jobs in work, by stage."""

    seconds: dict[str, float] = field(default_factory=dict)
    per_s: dict[str, float] = field(default_factory=dict)
    running: dict[str, int] = field(default_factory=dict)


class Pace:
    """Asks the database every two seconds at most; clients poll far more often."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._speeds = Speeds()
        self._until = 0.0

    def speeds(self, session: Session | None = None) -> Speeds:
        """Who is in a transaction passes it on: one that waits for another of its own thread's stops a migration.

        The migration waits for the first to end, and the second for the migration.
        """
        if time.monotonic() >= self._until:
            self._until = time.monotonic() + FRESH_S  # first, so that only one thread asks
            self._speeds = _measure(session) if session else self._db.read(_measure)
        return self._speeds


def _measure(session: Session) -> Speeds:
    # Ids sort by time, so the primary key finds recent attempts without an index of their end.
    recent = (
        select(
            AttemptRow.stage,
            AttemptRow.ended_at,
            (AttemptRow.ended_at - AttemptRow.started_at).label("took"),
        )
        .where(AttemptRow.outcome.in_([Event.ADVANCE.value, Event.FINISH.value]))
        .order_by(AttemptRow.job_id.desc())
        .limit(RECENT)
        .subquery()
    )
    first, last = func.min(recent.c.ended_at), func.max(recent.c.ended_at)
    by_stage = select(recent.c.stage, func.avg(recent.c.took), func.count(), last - first)
    found = session.execute(by_stage.group_by(recent.c.stage)).all()
    running = session.execute(
        select(JobRow.stage, func.count()).where(JobRow.status == Status.RUNNING.value).group_by(JobRow.stage)
    ).all()
    return Speeds(
        {stage: float(mean) / 1e6 for stage, mean, _, _ in found},
        {stage: (count - 1) / (span_us / 1e6) for stage, _, count, span_us in found if span_us},
        {stage: number for stage, number in running if number},
    )


def eta_s(speeds: Speeds, stages: list[str], position: int | None, in_work_s: float | None) -> float | None:
    """Seconds until the last of `stages` ends, or None while no such stage has been seen.

    `position` counts the job itself and those before it; `in_work_s` is how long a worker holds it already.
    """
    if any(stage not in speeds.seconds for stage in stages):
        return None
    total = sum(speeds.seconds[stage] for stage in stages)
    if position is not None:
        total += speeds.seconds[stages[0]] * (position - 1) / max(1, speeds.running.get(stages[0], 0))
    elif in_work_s is not None:
        total -= min(max(0.0, in_work_s), speeds.seconds[stages[0]])
    return round(total, 3)
