"""Which workers there are, asked of the workers themselves."""

import threading
import time

import structlog

from shared.queue import BROKER_ERRORS, impatient, make_celery
from shared.settings import Settings

ANSWER_S = 0.5  # how long workers have to answer
FRESH_S = 5.0

log = structlog.get_logger(__name__)


class Presence:
    """Which queues some worker listens to, asked of the workers themselves every few seconds at most."""

    def __init__(self, settings: Settings) -> None:
        self._celery = make_celery(settings)
        self._celery.conf.broker_transport_options |= impatient(settings)
        self._queues: frozenset[str] | None = frozenset()
        self._until = 0.0
        self._lock = threading.Lock()

    def queues(self) -> frozenset[str] | None:
        """None while the broker does not answer."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._queues = self._ask()
                self._until = time.monotonic() + FRESH_S
            return self._queues

    def _ask(self) -> frozenset[str] | None:
        try:
            replies = self._celery.control.inspect(timeout=ANSWER_S).active_queues() or {}
        except BROKER_ERRORS as error:
            log.warning("workers_unknown", error=type(error).__name__)
            return None
        return frozenset(queue["name"] for queues in replies.values() for queue in queues)

    def close(self) -> None:
        self._celery.close()
