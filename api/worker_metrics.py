"""What /metrics tells of the workers: the totals that they keep on Redis, and how many of them there are."""

import threading
import time
from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from shared.figures import ROLES, Figures, field_of
from shared.settings import Settings
from shared.totals import Told, Totals

FRESH_S = 1.0


class WorkerFigures(Collector):
    """Every declared figure, whether or not somebody counted it. Without Redis only that there is none."""

    def __init__(self, settings: Settings) -> None:
        self._totals = Totals(settings)
        self._declared = list(Figures().registry.collect())
        self._told: Told | None = None
        self._until = 0.0
        self._lock = threading.Lock()

    def describe(self) -> list[Metric]:
        return [*self._declared, _workers(), _broker()]

    def collect(self) -> Iterator[Metric]:
        told = self._look()
        yield _broker(0 if told is None else 1)
        if told is None:
            return
        workers = _workers()
        for role in ROLES:
            workers.add_metric([role], told.workers.get(role, 0))
        yield workers
        yield from (_with_totals(family, told.totals) for family in self._declared)

    def _look(self) -> Told | None:
        with self._lock:
            if time.monotonic() >= self._until:
                self._told = self._totals.read()
                self._until = time.monotonic() + FRESH_S
            return self._told

    def close(self) -> None:
        self._totals.close()


def _with_totals(declared: Metric, totals: dict[str, float]) -> Metric:
    """Only what is declared: whatever else lies on Redis under our key is not shown."""
    family = Metric(declared.name, declared.documentation, declared.type)
    for sample in declared.samples:
        if not sample.name.endswith("_created"):
            family.add_sample(sample.name, sample.labels, totals.get(field_of(sample), 0.0))
    return family


def _workers() -> GaugeMetricFamily:
    return GaugeMetricFamily("medq_workers", "Worker processes that were heard of lately", labels=["role"])


def _broker(up: float | None = None) -> GaugeMetricFamily:
    about = "Whether Redis answers; without it nothing is told of the workers"
    return GaugeMetricFamily("medq_broker_up", about, value=up)
