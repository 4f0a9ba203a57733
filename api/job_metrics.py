"""What /metrics tells of jobs, out of the database: how many stand and wait where, and since when; and of webhooks."""

import time
import uuid
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared import pauses
from shared.database import Database, now_us
from shared.figures import STAGES
from shared.lifecycle import TERMINAL, Status
from shared.queue import LANES
from shared.tables import DeliveryRow, JobRow

FRESH_S = 2.0
OPEN_SHARE = 20  # counting open jobs may take this part of the time
LOOK_SHARE = 200  # ended jobs only grow: counting them may take this part of it
OPEN = tuple(status.value for status in Status if status not in TERMINAL)
ENDED = tuple(status.value for status in TERMINAL)

Counts = dict[tuple[str, str], int]  # by status and stage
InLine = dict[tuple[str, str], int]  # queued jobs by stage and lane
Ages = dict[tuple[str, str], float]  # seconds by stage and lane


class JobGauges(Collector):
    """Looks every two seconds at most, however many ask, and more rarely where a look takes long."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._open: Counts = {}
        self._ended: Counts = {}
        self._waiting: InLine = {}
        self._ages: Ages = {}
        self._deliveries = self._paused = 0
        self._until = self._ended_until = 0.0

    def describe(self) -> list[GaugeMetricFamily]:
        """Known without asking the database, which need not be there yet."""
        return [_jobs(), _in_line(), _oldest(), _undelivered(), _pauses()]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        self._look()
        counts = self._open | self._ended
        jobs, in_line, oldest = _jobs(), _in_line(), _oldest()
        for status in Status:
            for stage in STAGES:
                jobs.add_metric([status.value, stage], counts.get((status.value, stage), 0))
        for stage in STAGES:
            for lane in LANES:
                in_line.add_metric([stage, lane], self._waiting.get((stage, lane), 0))
                oldest.add_metric([stage, lane], self._ages.get((stage, lane), 0.0))
        yield from (jobs, in_line, oldest, _undelivered(self._deliveries), _pauses(self._paused))

    def _look(self) -> None:
        began = time.monotonic()
        if began >= self._until:
            self._open, self._waiting = self._db.read(_count_open)
            self._ages = self._db.read(_ages)
            self._deliveries = self._db.read(_count_deliveries)
            self._paused = len(pauses.every(self._db))
            self._until = began + max(FRESH_S, OPEN_SHARE * (time.monotonic() - began))
        if began >= self._ended_until:
            began = time.monotonic()
            self._ended = self._db.read(_count_ended)
            took = time.monotonic() - began
            self._ended_until = began + max(FRESH_S, LOOK_SHARE * took)


def _jobs() -> GaugeMetricFamily:
    return GaugeMetricFamily("medq_jobs", "Jobs by status and stage", labels=["status", "stage"])


def _in_line() -> GaugeMetricFamily:
    return GaugeMetricFamily("medq_queue_jobs", "Jobs that wait for a stage", labels=["stage", "lane"])


def _oldest() -> GaugeMetricFamily:
    about = "Seconds since the oldest job was made that waits for a stage; 0 when none waits"
    return GaugeMetricFamily("medq_oldest_waiting_seconds", about, labels=["stage", "lane"])


def _undelivered(number: int | None = None) -> GaugeMetricFamily:
    about = "Messages to webhooks that are not delivered yet"
    return GaugeMetricFamily("medq_webhook_deliveries_waiting", about, value=number)


def _pauses(number: int | None = None) -> GaugeMetricFamily:
    return GaugeMetricFamily("medq_pauses", "Pauses of pipelines and lanes", value=number)


def _count_open(session: Session) -> tuple[Counts, InLine]:
    """Few, so that both counts come of one statement."""
    found = (
        select(JobRow.status, JobRow.stage, JobRow.lane, func.count())
        .where(JobRow.status.in_(OPEN))
        .group_by(JobRow.status, JobRow.stage, JobRow.lane)
    )
    counts: Counts = {}
    waiting: InLine = {}
    for status, stage, lane, number in session.execute(found):
        counts[status, stage] = counts.get((status, stage), 0) + number
        if status == Status.QUEUED.value:
            waiting[stage, lane] = number
    return counts, waiting


def _count_ended(session: Session) -> Counts:
    found = (
        select(JobRow.status, JobRow.stage, func.count())
        .where(JobRow.status.in_(ENDED))
        .group_by(JobRow.status, JobRow.stage)
    )
    return {(status, stage): number for status, stage, number in session.execute(found)}


def _count_deliveries(session: Session) -> int:
    waiting = select(func.count()).where(DeliveryRow.status == "waiting")
    return session.scalar(waiting) or 0


def _ages(session: Session) -> Ages:
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
