"""The broker: Celery's configuration, queue names, dispatch that never slows a submit, and hints of change."""

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import redis
import structlog
from amqp.exceptions import AMQPError
from celery import Celery
from kombu.entity import Queue
from kombu.exceptions import OperationalError

from shared.settings import Settings
from shared.transports import RabbitTransport, Steadfast, rabbit_options, redis_options

LANES = ("interactive", "bulk")
LARGEST_MESSAGE = 64  # job ids
BREAKER_S = 5.0
HINTS = "medq.changes"  # pub/sub channel; a hint carries {job id: version}
DRAFTS = "medq.drafts"  # pub/sub channel; a hint carries {job id: attempt}, and the text lies under a key
DRAFT_KEPT_S = 600
RABBIT_HEARTBEAT_S = 30
# What a broker that is away, or does not take what it is sent, raises
BROKER_ERRORS = (OperationalError, OSError, redis.RedisError, AMQPError)

log = structlog.get_logger(__name__)


def queue_name(stage: str, group: str, lane: str) -> str:
    """`<stage>.<group>.<lane>`: the answer stage needs no weights, so its group is always `all`."""
    return f"{stage}.{'all' if stage == 'answer' else group}.{lane}"


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
        broker_transport_options=redis_options(),
    )
    if settings.rabbit:
        celery.conf.update(
            broker_transport=RabbitTransport,
            task_default_delivery_mode="transient",  # what a broker forgets comes again from the database
            broker_transport_options=rabbit_options(),
            broker_heartbeat=RABBIT_HEARTBEAT_S,
            # RabbitMQ closes the channel of whoever holds a message for longer than its `consumer_timeout`, half an hour,
            # as a long archive does. Its message then comes again, and finds that it is claimed.
            broker_channel_error_retry=True,
        )
    return celery


def impatient(settings: Settings) -> dict[str, Any]:
    """Options of connections that somebody waits for: a second, and no second try."""
    options = rabbit_options(1.0, 1.0) if settings.rabbit else redis_options(1.0, 1.0)
    # Else kombu tries a first connection again for 4 to 6 s, retry=False or not.
    return options | {"max_retries": 0}


def broker_answers(settings: Settings) -> bool:
    """Whether what carries the queues lets us in."""
    celery = make_celery(settings)
    celery.conf.broker_transport_options |= impatient(settings)
    try:
        with celery.connection_for_write() as connection:
            connection.default_channel.close()
    except BROKER_ERRORS:
        return False
    finally:
        celery.close()
    return True


class Dispatcher:
    """Hands ids to the broker. A broker that does not answer is left alone for five seconds.

    The socket's time-out is one second, and what ran into it is not retried: a job that could not be dispatched
    waits in the database, where the sweeper finds it. With RabbitMQ any other error is worth a second try at once: a
    connection that it closed since the last message says so only when it is used. redis-py looks before it sends.
    """

    def __init__(self, settings: Settings) -> None:
        self._celery = make_celery(settings)
        # RabbitMQ says what it has taken: else a message is lost without a word in a connection that it has closed.
        self._celery.conf.broker_transport_options |= impatient(settings) | (
            {"confirm_publish": True} if settings.rabbit else {}
        )
        self._tries = 2 if settings.rabbit else 1
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
        for again in reversed(range(self._tries)):
            try:
                self._celery.send_task(f"medq.{stage}", args=[ids], queue=queue, retry=False)
                return True
            except BROKER_ERRORS as error:
                if not again or _ran_out(error):
                    log.warning("dispatch_failed", queue=queue, jobs=len(ids), error=type(error).__name__)
                    break
        self._open_until = time.monotonic() + BREAKER_S
        return False

    def close(self) -> None:
        self._celery.close()


class Hints:
    """Tells whoever waits that jobs changed. A hint may be lost: waiting code also looks by itself."""

    def __init__(self, settings: Settings) -> None:
        self._redis = redis.Redis.from_url(
            settings.redis_location, socket_timeout=1.0, socket_connect_timeout=1.0, retry=None
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


def _ran_out(error: BaseException | None) -> bool:
    """Whether a time-out is what it comes from."""
    while error and not isinstance(error, TimeoutError):
        error = error.__cause__
    return error is not None


def _draft_key(job_id: str) -> str:
    return f"medq.draft.{job_id}"


def _written_key(job_id: str) -> str:
    return f"medq.written.{job_id}"
