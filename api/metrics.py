"""What /metrics tells Prometheus: requests and their time in this process, jobs by status in the database."""

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from shared.database import Database
from shared.lifecycle import Status
from shared.tables import JobRow

FRESH_S = 10.0  # counting all jobs reads an index from end to end


class Metrics:
    """A registry of its own, so that two apps in one process do not count for each other."""

    def __init__(self, db: Database) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "medq_http_requests", "Requests answered", ["method", "route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "medq_http_request_seconds",
            "Time to answer, waits included",
            ["method", "route"],
            registry=self._registry,
        )
        self._registry.register(_Jobs(db))

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(method, route).observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _Jobs(Collector):
    def __init__(self, db: Database) -> None:
        self._db = db
        self._counts: dict[tuple[str, str], int] = {}
        self._until = 0.0

    def describe(self) -> list[GaugeMetricFamily]:
        """Known without asking the database, which need not be there yet."""
        return [self._family()]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        if time.monotonic() >= self._until:
            self._counts = self._count()
            self._until = time.monotonic() + FRESH_S
        family = self._family()
        for status in Status:
            for stage in sorted({known for _, known in self._counts} | {"vision"}):
                family.add_metric([status.value, stage], self._counts.get((status.value, stage), 0))
        yield family

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily("medq_jobs", "Jobs by status and stage", labels=["status", "stage"])

    def _count(self) -> dict[tuple[str, str], int]:
        statement = select(JobRow.status, JobRow.stage, func.count()).group_by(JobRow.status, JobRow.stage)
        return self._db.read(
            lambda session: {(status, stage): n for status, stage, n in session.execute(statement)}
        )
