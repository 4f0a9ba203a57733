"""Clients that wait for a job hold a thread but no connection: hints wake them, and a poller as fallback."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import redis
import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from shared.database import Database
from shared.errors import ServiceUnavailable
from shared.queue import DRAFTS, Hints
from shared.tables import JobRow

POLL_S = 1.0
LISTEN_S = 0.5  # how long a stop may go unnoticed by the thread that listens

log = structlog.get_logger(__name__)


class News(NamedTuple):
    """What woke a stream: a newer version of the job, or a longer draft of its answer."""

    changed: bool
    drafted: bool


class Watch:
    """One waiting client. What was hinted before it waits is kept, so nothing falls into the gap."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._version = 0
        self._drafted = False
        self._closed = False

    def hint(self, version: int) -> None:
        with self._changed:
            self._version = max(self._version, version)
            self._changed.notify_all()

    def hint_draft(self) -> None:
        with self._changed:
            self._drafted = True
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait(self, seen: int, timeout_s: float) -> bool:
        """Block until a version newer than `seen` was hinted; False when time is up or the server stops."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._version > seen, max(0.0, timeout_s))
            newer = self._version > seen
            self._version = 0  # a hint wakes once; whoever still sees the old version waits again
            return newer and not self._closed

    def wait_news(self, seen: int, timeout_s: float) -> News:
        """As `wait`, but a draft ends it too."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or self._drafted or self._version > seen, max(0.0, timeout_s)
            )
            news = News(self._version > seen, self._drafted)
            self._version, self._drafted = 0, False
            return news


class Waiters:
    """Every waiting client of this process. The threads start with the first one."""

    def __init__(self, db: Database, hints: Hints, limit: int, poll_s: float = POLL_S) -> None:
        self._db, self._hints, self._limit, self._poll_s = db, hints, limit, poll_s
        self._watches: dict[str, list[Watch]] = {}
        self._count = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    @contextmanager
    def watch(self, job_id: str) -> Iterator[Watch]:
        """Watch a job. Read its version after entering: then no change can be missed.

        Raises: ServiceUnavailable when half of the threads wait already
        """
        watch = Watch()
        with self._lock:
            if self._count >= self._limit:
                raise ServiceUnavailable("Too many clients wait already.", retry_after_s=1)
            self._count += 1
            self._watches.setdefault(job_id, []).append(watch)
        if self._stopping.is_set():
            watch.close()
        self.start()
        try:
            yield watch
        finally:
            with self._lock:
                self._count -= 1
                self._watches[job_id].remove(watch)
                if not self._watches[job_id]:
                    del self._watches[job_id]

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def start(self) -> None:
        with self._lock:
            if self._threads or self._stopping.is_set():
                return
            self._threads = [
                threading.Thread(target=self._listen, name="hints", daemon=True),
                threading.Thread(target=self._poll, name="poller", daemon=True),
            ]
            for thread in self._threads:
                thread.start()

    def close(self) -> None:
        """Send every client home with what is known, and end the threads."""
        self._stopping.set()
        with self._lock:
            for watches in self._watches.values():
                for watch in watches:
                    watch.close()
            threads = self._threads
        for thread in threads:
            thread.join(timeout=5)

    def _wake(self, versions: dict[str, int]) -> None:
        with self._lock:
            for job_id, version in versions.items():
                for watch in self._watches.get(job_id, ()):
                    watch.hint(version)

    def _wake_readers(self, job_ids: Iterable[str]) -> None:
        with self._lock:
            for job_id in job_ids:
                for watch in self._watches.get(job_id, ()):
                    watch.hint_draft()

    def _listen(self) -> None:
        while not self._stopping.is_set():
            try:
                subscription = self._hints.subscribe()
            except (redis.RedisError, OSError):
                self._stopping.wait(self._poll_s)  # the poller goes on meanwhile
                continue
            try:
                self._relay(subscription.get_message)
            except (redis.RedisError, OSError) as error:
                log.warning("hints_lost", error=type(error).__name__)
            finally:
                subscription.close()

    def _relay(self, get_message: Callable[..., Any]) -> None:
        while not self._stopping.is_set():
            if message := get_message(timeout=LISTEN_S):
                hint = _hint(message["data"])
                if message["channel"] == DRAFTS.encode():
                    self._wake_readers(hint)
                else:
                    self._wake(hint)

    def _poll(self) -> None:
        while not self._stopping.wait(self._poll_s):
            with self._lock:
                ids = sorted(self._watches)
            if not ids:
                continue
            try:
                self._wake(_versions(self._db, ids))
            except SQLAlchemyError as error:
                log.warning("poll_failed", error=type(error).__name__)


def _hint(data: bytes) -> dict[str, int]:
    """Job id to version; what is no hint of ours wakes nobody."""
    try:
        return {str(job_id): int(version) for job_id, version in json.loads(data).items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def _versions(db: Database, ids: list[str]) -> dict[str, int]:
    statement = select(JobRow.id, JobRow.version).where(JobRow.id.in_(ids))
    rows = db.read(lambda session: session.execute(statement).all())
    return {row.id: row.version for row in rows}
