"""Totals of what all workers count, kept on Redis and shown by the API's /metrics.

Workers are many, come and go, and listen on no port. So each adds what it has counted since the last time: a total
survives the worker, and needs no label with its name. Redis may lose the totals; Prometheus takes that for the
restart of a counter.
"""

import hashlib
import os
import socket
import threading
from contextlib import suppress
from typing import NamedTuple

import redis
import structlog

from shared.figures import ROLES, Figures
from shared.settings import Settings

TELL_S = 2.0
ALIVE_S = 5 * TELL_S  # a worker that was silent for longer is not counted
KEPT_S = 7 * 24 * 3600  # totals that nobody adds to any more
WORKERS = "medq.workers"  # sorted set: "role name" by the time, on Redis's clock, of its last word

log = structlog.get_logger(__name__)


def _key() -> str:
    """Of the totals. Another version of MedQ, with other figures or buckets, has totals of its own."""
    declared = "\n".join(sorted(Figures().values()))
    return f"medq.figures.{hashlib.sha256(declared.encode()).hexdigest()[:12]}"


KEY = _key()


def _connected(settings: Settings) -> "redis.Redis":
    return redis.Redis.from_url(
        settings.redis_location,
        socket_timeout=1.0,
        socket_connect_timeout=1.0,
        retry=None,
        decode_responses=True,
    )


class Teller:
    """Adds a process's counts to the totals every two seconds, and says that the process is there."""

    def __init__(self, settings: Settings, figures: Figures, role: str) -> None:
        self._figures, self._redis = figures, _connected(settings)
        self._me = f"{role} {socket.gethostname()}:{os.getpid()}"
        self._told: dict[str, float] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="figures", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(TELL_S):
            self.tell()

    def tell(self) -> None:
        """What grew since the last time. A loss is borne: figures are worth no retry, and nothing is told twice."""
        with self._lock:
            now = self._figures.values()
            grown = {field: value - self._told.get(field, 0.0) for field, value in now.items()}
            try:
                self._add({field: more for field, more in grown.items() if more})
            except redis.TimeoutError:
                log.debug("figures_lost")  # Redis may have taken them and not said so
            except (redis.RedisError, OSError):
                return  # not taken: they go with the next
            self._told = now

    def _add(self, grown: dict[str, float]) -> None:
        seconds, _ = self._redis.time()
        with self._redis.pipeline(transaction=True) as pipe:
            for field, more in grown.items():
                pipe.hincrbyfloat(KEY, field, more)
            pipe.expire(KEY, KEPT_S)
            pipe.zadd(WORKERS, {self._me: seconds})
            pipe.zremrangebyscore(WORKERS, "-inf", seconds - 10 * ALIVE_S)
            pipe.execute()

    def close(self) -> None:
        """Tell the rest, and take leave."""
        self._stopped.set()
        self.tell()
        with suppress(redis.RedisError, OSError):
            self._redis.zrem(WORKERS, self._me)
        self._redis.close()


class Told(NamedTuple):
    """All workers' totals by field, and how many workers there are by role."""

    totals: dict[str, float]
    workers: dict[str, int]


class Totals:
    """Reads what all workers have told."""

    def __init__(self, settings: Settings) -> None:
        self._redis = _connected(settings)

    def read(self) -> Told | None:
        """None while Redis does not answer: a zero would look as if the counters had started again."""
        try:
            found: dict[str, str] = self._redis.hgetall(KEY)  # type: ignore[assignment]
            names = self._names()
        except (redis.RedisError, OSError, ValueError):
            return None
        roles = [name.split(" ")[0] for name in names]
        return Told(_numbers(found), {role: roles.count(role) for role in ROLES})

    def hosts(self) -> set[str] | None:
        """Where workers were heard of lately; None while Redis does not answer."""
        try:
            return {name.split(" ")[-1].rpartition(":")[0] for name in self._names()}
        except (redis.RedisError, OSError):
            return None

    def _names(self) -> list[str]:
        """`role host:pid` of every worker that spoke lately, by Redis's clock."""
        seconds, _ = self._redis.time()
        found: list[str] = self._redis.zrangebyscore(WORKERS, seconds - ALIVE_S, "+inf")  # type: ignore[assignment]
        return found

    def close(self) -> None:
        self._redis.close()


def _numbers(found: dict[str, str]) -> dict[str, float]:
    numbers = {}
    for field, text in found.items():
        try:
            numbers[field] = float(text)
        except ValueError:
            log.warning("figure_unreadable", field=field[:80])
    return numbers
