"""The sweeper: ends what ran out, and delivers again what waits too long. Two of them do no harm."""

import threading
from collections.abc import Iterable

import structlog

from shared import jobs
from shared.database import Database
from shared.queue import Dispatcher, Hints
from shared.settings import Settings
from shared.tables import JobRow

FORGET_EVERY = 300  # rounds

log = structlog.get_logger(__name__)


class Sweeper:
    """Every round looks at the database alone, so that a round that was cut short costs nothing."""

    def __init__(self, db: Database, dispatcher: Dispatcher, hints: Hints, settings: Settings) -> None:
        self._db, self._dispatcher, self._hints, self._settings = db, dispatcher, hints, settings

    def run(self, stop: threading.Event) -> None:
        rounds = 0
        while not stop.wait(self._settings.sweep_s):
            try:
                self.sweep()
                if rounds % FORGET_EVERY == 0:
                    jobs.forget_keys(self._db)
            except Exception:
                log.exception("sweep_failed")  # the database may be away; the next round tries again
            rounds += 1

    def sweep(self) -> None:
        """One round."""
        lost = jobs.reap(self._db, self._settings.max_attempts)
        expired = jobs.expire(self._db)
        # Not without a broker: each look doubles the wait until the next one.
        due = jobs.due(self._db, self._settings.redispatch_s) if self._hints.ping() else []
        self._deliver(due)
        self._hints.publish(lost | expired)
        if lost or expired or due:
            log.info("swept", lost=len(lost), expired=len(expired), dispatched=len(due))

    def _deliver(self, due: Iterable[JobRow]) -> None:
        """Together by queue; a job that was lost once goes alone, in case it was its worker's death."""
        together: dict[tuple[str, str, str], list[str]] = {}
        for job in due:
            if job.lost:
                self._dispatcher.dispatch([job.id], job.stage, job.pipeline, job.lane)
            else:
                together.setdefault((job.stage, job.pipeline, job.lane), []).append(job.id)
        for (stage, pipeline, lane), ids in together.items():
            self._dispatcher.dispatch(ids, stage, pipeline, lane)
