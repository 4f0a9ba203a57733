"""What carries the queues: Redis or RabbitMQ, each mended where a broker that goes away would stop a worker."""

from collections.abc import Callable
from typing import Any

from kombu.connection import Connection
from kombu.transport import pyamqp
from kombu.transport import redis as redis_transport

RECONNECT_S = 1.0  # between two tries of a worker to reach its broker


class RedisChannel(redis_transport.Channel):
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


class RedisTransport(redis_transport.Transport):
    Channel = RedisChannel


class Impatient:
    """Waits for the broker's word for the connection's `read_timeout`, where py-amqp waits for ever.

    A word that comes too late would pass for the answer to the next question, so the connection is given up.
    Source: amqp.abstract_channel.AbstractChannel.wait
    """

    connection: Any

    def wait(
        self,
        method: Any,
        callback: Callable[..., Any] | None = None,
        timeout: float | None = None,
        returns_tuple: bool = False,
    ) -> Any:
        asked = self.connection
        patience_s = timeout or getattr(asked, "read_timeout", None)
        try:
            return super().wait(method, callback, patience_s, returns_tuple)  # type: ignore[misc]
        except TimeoutError:
            asked.collect()
            raise


class RabbitChannel(Impatient, pyamqp.Channel):
    pass


class RabbitConnection(Impatient, pyamqp.Connection):
    Channel = RabbitChannel

    def connect(self, callback: Callable[[], Any] | None = None) -> Any:
        """Leaves no socket behind where RabbitMQ does not let us in."""
        try:
            return super().connect(callback)
        except Exception:
            self.collect()
            raise


class RabbitTransport(pyamqp.Transport):
    Connection = RabbitConnection


class Steadfast(Connection):
    """A connection that outlives its broker."""

    def get_transport_cls(self) -> type[Any]:
        """Redis' whatever the form of its URL; RabbitMQ's is told by name, so that kombu's pools have it, too."""
        found: type[Any] = super().get_transport_cls()
        return found if issubclass(found, RabbitTransport) else RedisTransport

    def ensure_connection(self, *arguments: Any, **named: Any) -> Any:
        """Try every second. By itself kombu pauses longer each time, up to 30 s, while messages pile up
        at a broker that has long come back."""
        pauses = {"interval_start": RECONNECT_S, "interval_step": 0, "interval_max": RECONNECT_S}
        return super().ensure_connection(*arguments, **(pauses | named))


def redis_options(patience_s: float = 10, connect_s: float = 2) -> dict[str, Any]:
    return {
        "queue_order_strategy": "priority",  # in the order the queues are named: interactive first
        "ack_emulation": False,  # what was taken and is lost comes again from the database, sooner than from Redis
        "socket_timeout": patience_s,
        "socket_connect_timeout": connect_s,
        # Nothing is tried again below Celery, which makes all of its connections anew: a lost pub/sub connection
        # that redis-py restores by itself has no subscriptions, since kombu gives it out without telling PubSub,
        # and the worker's loop would wait on it for ever.
        "retry_on_timeout": False,
        "health_check_interval": 20,
    }


def rabbit_options(patience_s: float = 10, connect_s: float = 2) -> dict[str, Any]:
    return {"read_timeout": patience_s, "write_timeout": patience_s, "connect_timeout": connect_s}
