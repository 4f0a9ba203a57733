"""What /metrics tells Prometheus: requests and their time in this process, and the jobs in the database."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from api.job_metrics import JobGauges
from shared.database import Database


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
        self._registry.register(JobGauges(db))

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(method, route).observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self._registry)
