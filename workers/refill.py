"""Keeps the bulk window full, and ends batches whose last job has ended; one thread a process does both."""

import threading
from collections.abc import Iterable

import structlog

from shared import batches, window
from shared.database import Database
from shared.queue import Dispatcher, Hints
from shared.settings import Settings

log = structlog.get_logger(__name__)


class Refiller:
    """Asks collect while a round runs, so that many messages that end at once cost one look."""

    def __init__(self, db: Database, dispatcher: Dispatcher, hints: Hints, settings: Settings) -> None:
        self._db, self._dispatcher, self._hints, self._settings = db, dispatcher, hints, settings
        self._wanted: set[tuple[str, str]] = set()
        self._ended: set[str] = set()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="refill", daemon=True)
        self._thread.start()

    def ask(self, stage: str, pipeline: str) -> None:
        """Jobs came into line for a stage, or a message of it has ended."""
        with self._changed:
            self._wanted.add((stage, group_of(stage, pipeline)))
            self._changed.notify()

    def ended(self, batch_ids: Iterable[str]) -> None:
        """Jobs of these batches have ended, perhaps the last ones."""
        with self._changed:
            self._ended.update(batch_ids)
            self._changed.notify()

    def close(self) -> None:
        """Do what was asked, then stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _loop(self) -> None:
        while True:
            with self._changed:
                while not (self._wanted or self._ended or self._closed):
                    self._changed.wait()
                wanted, self._wanted = self._wanted, set()
                ended, self._ended = self._ended, set()
                if self._closed and not (wanted or ended):
                    return
            try:
                for stage, group in sorted(wanted):
                    refill(self._db, self._dispatcher, self._settings, stage, group)
                self._hints.publish(batches.settle(self._db, ended))
            except Exception:
                log.exception("refill_failed")  # the sweeper looks again


def group_of(stage: str, pipeline: str) -> str:
    return "all" if stage == "answer" else pipeline


def refill(db: Database, dispatcher: Dispatcher, settings: Settings, stage: str, group: str) -> int:
    """Fill a queue's window and send; what the broker does not take goes back in line. Answers with jobs sent."""
    sizes = {"answer": settings.bulk_answers, "explain": settings.explain_threads}
    size = sizes.get(stage, settings.bulk_window)
    messages = window.fill(db, stage, group, size, settings.redispatch_s)
    refused = [ids for ids in messages if not dispatcher.dispatch(ids, stage, group, window.BULK)]
    if refused:
        window.put_back(db, [job_id for ids in refused for job_id in ids])
    return sum(map(len, messages)) - sum(map(len, refused))
