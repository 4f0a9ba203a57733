"""What /metrics tells of jobs, out of the database: how many stand where, and how long the oldest has waited."""

import time
import uuid
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.database import Database, now_us
from shared.lifecycle import TERMINAL, Status
from shared.queue import LANES
from shared.tables import JobRow

FRESH_S = 10.0
LOOK_SHARE = 200  # ended jobs only grow: counting them may take this part of the time
OPEN = tuple(status.value for status in Status if status not in TERMINAL)
ENDED = tuple(status.value for status in TERMINAL)

Counts = dict[tuple[str, str], int]  # by status and stage
Ages = dict[tuple[str, str], float]  # seconds by stage and lane


class JobGauges(Collector):
    """Looks every ten seconds at most, however many ask."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._open: Counts = {}
        self._ended: Counts = {}
        self._ages: Ages = {}
        self._until = self._ended_until = 0.0

    def describe(self) -> list[GaugeMetricFamily]:
        """Known without asking the database, which need not be there yet."""
        return [self._jobs(), self._oldest()]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        self._look()
        counts = self._open | self._ended
        jobs, oldest = self._jobs(), self._oldest()
        for status in Status:
            for stage in sorted({known for _, known in counts} | {"vision"}):
                jobs.add_metric([status.value, stage], counts.get((status.value, stage), 0))
        for stage in sorted({known for known, _ in self._ages} | {"vision", "answer"}):
            for lane in LANES:
                oldest.add_metric([stage, lane], self._ages.get((stage, lane), 0.0))
        yield jobs
        yield oldest

    def _look(self) -> None:
        began = time.monotonic()
        if began >= self._until:
            self._open = self._db.read(lambda session: _count(session, OPEN))
            self._ages = self._db.read(_oldest)
            self._until = began + FRESH_S
        if began >= self._ended_until:
            began = time.monotonic()
            self._ended = self._db.read(lambda session: _count(session, ENDED))
            took = time.monotonic() - began
            self._ended_until = began + max(FRESH_S, LOOK_SHARE * took)

    def _jobs(self) -> GaugeMetricFamily:
        return GaugeMetricFamily("medq_jobs", "Jobs by status and stage", labels=["status", "stage"])

    def _oldest(self) -> GaugeMetricFamily:
        about = "Seconds since the oldest job was made that waits for a stage; 0 when none waits"
        return GaugeMetricFamily("medq_oldest_waiting_seconds", about, labels=["stage", "lane"])


def _count(session: Session, statuses: tuple[str, ...]) -> Counts:
    found = (
        select(JobRow.status, JobRow.stage, func.count())
        .where(JobRow.status.in_(statuses))
        .group_by(JobRow.status, JobRow.stage)
    )
    return {(status, stage): number for status, stage, number in session.execute(found)}


def _oldest(session: Session) -> Ages:
    """Ids begin with the time they were made at, and the queue's index has them in order."""
    now = session.scalar(select(now_us())) or 0
    found = (
        select(JobRow.stage, JobRow.lane, func.min(JobRow.id))
        .where(JobRow.status == Status.QUEUED.value)
        .group_by(JobRow.stage, JobRow.lane)
    )
    rows = session.execute(found).all()
    return {
        (stage, lane): max(0.0, now / 1e6 - (uuid.UUID(first).int >> 80) / 1e3) for stage, lane, first in rows
    }
