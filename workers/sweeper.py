"""The sweeper: ends what ran out, delivers again what waits too long, fills windows. Two of them do no harm."""

import random
import threading
from collections.abc import Iterable

import structlog

from shared import audit, batches, clock, jobs, keys, retention, uploads
from shared.blob_keys import PARTS
from shared.catalog import PIPELINES
from shared.database import Database
from shared.figures import Figures
from shared.idempotency import forget_keys
from shared.queue import Dispatcher, Hints
from shared.settings import Settings
from shared.storage import Storage
from shared.tables import JobRow
from workers.refill import refill

FORGET_EVERY = 300  # rounds

log = structlog.get_logger(__name__)


class Sweeper:
    """Every round looks at the database alone, so that a round that was cut short costs nothing."""

    def __init__(
        self,
        db: Database,
        storage: Storage,
        dispatcher: Dispatcher,
        hints: Hints,
        settings: Settings,
        figures: Figures | None = None,
    ) -> None:
        self._db, self._storage, self._settings = db, storage, settings
        self._dispatcher, self._hints = dispatcher, hints
        self._part = random.randrange(PARTS)
        self._swept = (figures or Figures()).swept

    def run(self, stop: threading.Event) -> None:
        rounds = 0
        while not stop.wait(self._settings.sweep_s):
            try:
                self.sweep()
                if rounds % FORGET_EVERY == 0:
                    self._forget()
            except Exception:
                log.exception("sweep_failed")  # the database may be away; the next round tries again
            rounds += 1

    def sweep(self) -> None:
        """One round."""
        if late := clock.bring_back(self._db, self._settings):
            log.warning("clock_set_back", rows=late)
        lost = jobs.reap(self._db, self._settings.max_attempts)
        expired = jobs.expire(self._db)
        ended = self._end_batches()
        # Not without a broker: each look doubles the wait until the next one.
        sent = self._send() if self._hints.ping() else 0
        self._hints.publish(lost | expired | ended)
        audit.seal(self._db)
        self._count(clock=late, lost=len(lost), expired=len(expired), settled=len(ended), dispatched=sent)
        if lost or expired or sent:
            log.info("swept", lost=len(lost), expired=len(expired), dispatched=sent)

    def _count(self, **done: int) -> None:
        for action, number in done.items():
            self._swept.labels(action).inc(number)

    def _end_batches(self) -> dict[str, int]:
        """Cancel what canceled batches left, a step for each; end batches of which nothing is left."""
        open_batches = batches.unsettled(self._db)
        changed: dict[str, int] = {}
        for batch_id in open_batches:
            changed |= batches.cancel_jobs(self._db, batch_id)
        return changed | batches.settle(self._db, open_batches)

    def _send(self) -> int:
        """People's jobs whose message seems lost, archives that nobody reads, and the windows."""
        waiting = jobs.due(self._db, self._settings.redispatch_s)
        self._deliver(waiting)
        archives = batches.due(self._db, self._settings.redispatch_s)
        for batch_id in archives:
            self._dispatcher.dispatch([batch_id], "archive", "all", "bulk")
        windows = [("vision", pipeline.group) for pipeline in PIPELINES.values()] + [("answer", "all")]
        windows += [("explain", pipeline.group) for pipeline in PIPELINES.values() if pipeline.classifier]
        filled = sum(refill(self._db, self._dispatcher, self._settings, *one) for one in windows)
        return len(waiting) + len(archives) + filled

    def _forget(self) -> None:
        forget_keys(self._db)
        batches.forget_keys(self._db)
        keys.forget_sessions(self._db)
        uploads.expire(self._db, self._storage)
        if keep_days := self._settings.keep_days:
            while erased := retention.erase_old(self._db, self._storage, keep_days * retention.DAY_S):
                log.info("retention", erased=erased)
                self._count(erased=erased)
        self._part = (self._part + 1) % PARTS  # all of them within two days, if a round lasts two seconds
        if strays := retention.erase_strays(self._db, self._storage, self._part):
            log.warning("strays_erased", strays=strays)

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
