"""The broker: Celery's configuration, queue names, dispatch that never slows a submit, and hints of change."""

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import redis
import structlog
from celery import Celery
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.exceptions import OperationalError
from kombu.transport import redis as redis_transport

from shared.settings import Settings

LANES = ("interactive", "bulk")
LARGEST_MESSAGE = 64  # job ids
BREAKER_S = 5.0
RECONNECT_S = 1.0  # between two tries of a worker to reach its broker
HINTS = "medq.changes"  # pub/sub channel; a hint carries {job id: version}
DRAFTS = "medq.drafts"  # pub/sub channel; a hint carries {job id: attempt}, and the text lies under a key
DRAFT_KEPT_S = 600

log = structlog.get_logger(__name__)


def queue_name(stage: str, group: str, lane: str) -> str:
    """`<stage>.<group>.<lane>`: the answer stage needs no weights, so its group is always `all`."""
    return f"{stage}.{'all' if stage == 'answer' else group}.{lane}"


class Channel(redis_transport.Channel):
    """A channel that says so when its connection was closed.

    A message that came before its broker died is given back or acknowledged on the channel it came by. By then Celery
    has closed that connection, and kombu 5.7 stumbles over it: its AttributeError is not among the errors for which
    Celery connects again, and ends the worker, with status 0. Source: kombu.transport.redis.Channel._connparams
    """

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        if getattr(self.connection, "client", None) is None:
            raise ConnectionError("The connection of this channel was closed.")
        found: dict[str, Any] = super()._connparams(asynchronous=asynchronous)
        return found


class Transport(redis_transport.Transport):
    Channel = Channel


class Steadfast(Connection):
    """A connection that outlives its broker."""

    def get_transport_cls(self) -> type[Transport]:
        """Redis carries the queues, whatever the form of its URL."""
        return Transport

    def ensure_connection(self, *arguments: Any, **named: Any) -> Any:
        """Try every second. By itself kombu pauses longer each time, up to 30 s, while messages pile up
        at a broker that has long come back."""
        pauses = {"interval_start": RECONNECT_S, "interval_step": 0, "interval_max": RECONNECT_S}
        return super().ensure_connection(*arguments, **(pauses | named))


def make_celery(settings: Settings, queues: Iterable[str] = ()) -> Celery:
    """Celery as MedQ uses it: JSON lists of job ids, late acks, no results, no schedules of its own."""
    celery = Celery("medq", broker=settings.celery_broker_url, set_as_current=False)
    celery.amqp.Connection = Steadfast
    celery.conf.update(
        task_queues=[Queue(name) for name in queues] or None,
        task_create_missing_queues=True,
        task_ignore_result=True,
        task_acks_late=True,
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_send_task_events=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "queue_order_strategy": "priority",  # in the order the queues are named: interactive first
            "ack_emulation": False,  # what was taken and is lost comes again from the database, sooner than from Redis
            "socket_timeout": 10,
            "socket_connect_timeout": 2,
            # Nothing is tried again below Celery, which makes all of its connections anew: a lost pub/sub connection
            # that redis-py restores by itself has no subscriptions, since kombu gives it out without telling PubSub,
            # and the worker's loop would wait on it for ever.
            "retry_on_timeout": False,
            "health_check_interval": 20,
        },
    )
    return celery


class Dispatcher:
    """Hands ids to the broker. A broker that does not answer is left alone for five seconds.

    The socket's time-out is one second and nothing is retried: a job that could not be dispatched
    waits in the database, where the sweeper finds it.
    """

    def __init__(self, settings: Settings) -> None:
        self._celery = make_celery(settings)
        self._celery.conf.broker_transport_options |= {
            "socket_timeout": 1.0,
            "socket_connect_timeout": 1.0,
            "max_retries": 0,  # else kombu tries a first connection again for 4 to 6 s, retry=False or not
        }
        # As many as there are threads: nobody waits for a connection behind another's time-out.
        self._celery.conf.broker_pool_limit = 1024
        self._open_until = 0.0

    def dispatch(self, ids: list[str], stage: str, group: str, lane: str) -> bool:
        """Send one message per 64 ids; False when the broker did not take them all."""
        chunks = [ids[start : start + LARGEST_MESSAGE] for start in range(0, len(ids), LARGEST_MESSAGE)]
        return all(self._send(chunk, stage, queue_name(stage, group, lane)) for chunk in chunks)

    def _send(self, ids: list[str], stage: str, queue: str) -> bool:
        if time.monotonic() < self._open_until:
            return False
        try:
            self._celery.send_task(f"medq.{stage}", args=[ids], queue=queue, retry=False)
        except (OperationalError, OSError, redis.RedisError) as error:
            self._open_until = time.monotonic() + BREAKER_S
            log.warning("dispatch_failed", queue=queue, jobs=len(ids), error=type(error).__name__)
            return False
        return True

    def close(self) -> None:
        self._celery.close()


class Hints:
    """Tells whoever waits that jobs changed. A hint may be lost: waiting code also looks by itself."""

    def __init__(self, settings: Settings) -> None:
        self._redis = redis.Redis.from_url(
            settings.redis_url, socket_timeout=1.0, socket_connect_timeout=1.0, retry=None
        )
        self._open_until = 0.0
        self._lock = threading.Lock()

    def publish(self, versions: Mapping[str, int]) -> None:
        if versions:
            self._try(lambda: self._redis.publish(HINTS, json.dumps(dict(versions))))

    def subscribe(self) -> Any:
        """A redis-py PubSub on both channels. Raises redis.RedisError while there is no broker."""
        subscription = self._redis.pubsub(ignore_subscribe_messages=True)
        subscription.subscribe(HINTS, DRAFTS)
        return subscription

    def keep_draft(self, job_id: str, attempt: int, text: str) -> None:
        """An answer as far as it may be shown; always the whole of it, so that nothing lost leaves a hole."""
        self._keep(_draft_key(job_id), job_id, attempt, text)

    def draft(self, job_id: str, attempt: int) -> str:
        """What may be shown of that attempt's answer so far; empty when nothing is known."""
        return self._kept(_draft_key(job_id), attempt)

    def keep_written(self, job_id: str, attempt: int, characters: int) -> None:
        """How much a language model has written, and none of its words."""
        self._keep(_written_key(job_id), job_id, attempt, str(characters))

    def written(self, job_id: str, attempt: int) -> int:
        """Characters that a language model has written for that attempt; 0 when nothing is known."""
        return int(self._kept(_written_key(job_id), attempt) or 0)

    def forget_draft(self, job_id: str) -> None:
        self._try(lambda: self._redis.delete(_draft_key(job_id), _written_key(job_id)))

    def _keep(self, key: str, job_id: str, attempt: int, text: str) -> None:
        def work() -> None:
            with self._redis.pipeline(transaction=False) as pipe:
                pipe.set(key, f"{attempt}:{text}".encode(), ex=DRAFT_KEPT_S)
                pipe.publish(DRAFTS, json.dumps({job_id: attempt}))
                pipe.execute()

        self._try(work)

    def _kept(self, key: str, attempt: int) -> str:
        kept: bytes = self._try(lambda: self._redis.get(key)) or b""
        number, _, text = kept.partition(b":")
        return text.decode() if number == str(attempt).encode() else ""

    def _try(self, work: Callable[[], Any]) -> Any:
        """A broker that does not answer is left alone for five seconds; None stands for that."""
        if time.monotonic() < self._open_until:
            return None
        try:
            return work()
        except (redis.RedisError, OSError):
            with self._lock:
                self._open_until = time.monotonic() + BREAKER_S
            return None

    def ping(self) -> bool:
        try:
            return bool(self._redis.ping())
        except (redis.RedisError, OSError):
            return False

    def close(self) -> None:
        self._redis.close()


def _draft_key(job_id: str) -> str:
    return f"medq.draft.{job_id}"


def _written_key(job_id: str) -> str:
    return f"medq.written.{job_id}"
