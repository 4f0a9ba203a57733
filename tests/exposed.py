"""The metrics that /metrics really has, for tests of whatever names one."""

from prometheus_client.parser import text_string_to_metric_families

from api.metrics import Metrics
from shared.database import Database
from shared.settings import Settings


def exposed(db: Database, settings: Settings) -> set[str]:
    """Names of samples, of a process that has answered one request."""
    metrics = Metrics(db, settings)
    metrics.answered("GET", "/healthz", 200, 0.001)
    text = metrics.text().decode()
    metrics.close()
    return {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
