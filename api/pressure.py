"""When the system has more to do than it can promise, it says so before it accepts, and says when to come again."""

import math
import threading
import time

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.pace import Pace
from shared.database import Database
from shared.errors import TooManyRequests
from shared.lifecycle import Status, first_stage
from shared.settings import Settings
from shared.storage import Storage
from shared.tables import JobRow

FRESH_S = 1.0
ROOM = 0.9  # of the longest queue: who is sent away comes back to a queue that is a tenth shorter
LEAST_RETRY_S, LONGEST_RETRY_S = 1, 600
FULL_RETRY_S = 60  # nobody knows when somebody makes room


class Pressure:
    """Counts at most once a second; in between it counts what this process accepts."""

    def __init__(self, db: Database, storage: Storage, pace: Pace, settings: Settings) -> None:
        self._db, self._storage, self._pace = db, storage, pace
        self._most, self._least_free = settings.max_waiting, settings.min_free_bytes
        self._lock = threading.Lock()
        self._waiting = 0
        self._free: int | None = None
        self._until = 0.0

    def admit_job(self) -> None:
        """Raises: TooManyRequests when as many people's jobs wait as may, or the blobs have no room"""
        self.admit_bytes()
        with self._lock:
            full = self._waiting >= self._most
            self._waiting += not full
        if full:
            raise TooManyRequests(
                "The queue is full.", retry_after_s=retry_after_s(self._waiting, self._most, self._per_s())
            )

    def admit_bytes(self) -> None:
        """Raises: TooManyRequests when the blobs' disk is nearly full"""
        self._look()
        if self._free is not None and self._free < self._least_free:
            raise TooManyRequests("The server has too little space left.", retry_after_s=FULL_RETRY_S)

    def _per_s(self) -> float:
        return self._pace.speeds().per_s.get(first_stage(), 0.0)

    def _look(self) -> None:
        now = time.monotonic()
        with self._lock:
            if now < self._until:
                return
            self._until = now + FRESH_S  # first, so that only one thread asks
        waiting, free = self._db.read(self._count), self._storage.free_bytes()
        with self._lock:
            self._waiting, self._free = waiting, free

    def _count(self, session: Session) -> int:
        """Of people's jobs that nobody has begun; counting stops at the longest queue."""
        waiting = (
            select(JobRow.id)
            .where(JobRow.status == Status.QUEUED.value, JobRow.stage == first_stage())
            .where(JobRow.lane == "interactive")
            .limit(self._most)
            .subquery()
        )
        return session.scalar(select(func.count()).select_from(waiting)) or 0


def retry_after_s(waiting: int, most: int, per_s: float) -> int:
    """Seconds until the queue has room at `per_s` jobs a second; the longest wait when none end."""
    if per_s <= 0:
        return LONGEST_RETRY_S
    seconds = math.ceil((waiting - ROOM * most) / per_s)
    return min(LONGEST_RETRY_S, max(LEAST_RETRY_S, seconds))
