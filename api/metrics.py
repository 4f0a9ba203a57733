"""What /metrics tells Prometheus: requests and webhooks of this process, the jobs in the database, the workers."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from api.job_metrics import JobGauges
from api.worker_metrics import WorkerFigures
from shared.database import Database
from shared.settings import Settings

TRIES = ("delivered", "again", "failed")  # how one try of a delivery ended


class Metrics:
    """A registry of its own, so that two apps in one process do not count for each other."""

    def __init__(self, db: Database, settings: Settings) -> None:
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
        self._tries = Histogram(
            "medq_webhook_seconds",
            "One try to deliver to a webhook: delivered, to be tried again, or given up",
            ["outcome"],
            registry=self._registry,
        )
        for outcome in TRIES:
            self._tries.labels(outcome)
        self._registry.register(JobGauges(db))
        self._workers = WorkerFigures(settings)
        self._registry.register(self._workers)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(method, route).observe(seconds)

    def tried(self, outcome: str, seconds: float) -> None:
        """A webhook; `outcome` is one of TRIES."""
        self._tries.labels(outcome).observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def close(self) -> None:
        self._workers.close()
