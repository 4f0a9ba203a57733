"""The broker: what a message holds, and how little a broken Redis may cost."""

import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError

import shared.queue
import shared.transports
from shared.queue import DRAFTS, HINTS, LARGEST_MESSAGE, Dispatcher, Hints, make_celery, queue_name
from shared.settings import Settings
from tests.servers import Redis
from tests.sockets import Cost, Met

QUEUE = "vision.skin.interactive"


on_socket = pytest.mark.parametrize("settings", ["socket"], indirect=True)


@pytest.fixture(params=["socket", "port"])
def settings(broker: Redis, request: pytest.FixtureRequest) -> Settings:
    return Settings(broker_url=broker.url if request.param == "socket" else broker.tcp_url)


@pytest.fixture
def dispatcher(settings: Settings) -> Iterator[Dispatcher]:
    made = Dispatcher(settings)
    yield made
    made.close()


@pytest.fixture
def hints(settings: Settings) -> Iterator[Hints]:
    made = Hints(settings)
    yield made
    made.close()


def send(dispatcher: Dispatcher, ids: list[str]) -> bool:
    return dispatcher.dispatch(ids, "vision", "skin", "interactive")


def waiting(broker: Redis, queue: str = QUEUE) -> list[dict[str, Any]]:
    with broker.client() as client:
        return [json.loads(message) for message in reversed(client.lrange(queue, 0, -1))]


def body(message: dict[str, Any]) -> list[Any]:
    return json.loads(base64.b64decode(message["body"]))


def test_queues_are_named_by_stage_group_and_lane() -> None:
    assert queue_name("vision", "skin", "bulk") == "vision.skin.bulk"
    assert queue_name("answer", "skin", "interactive") == "answer.all.interactive"


def test_a_message_holds_job_ids_and_nothing_else(broker: Redis, dispatcher: Dispatcher) -> None:
    assert send(dispatcher, ["job-1", "job-2"])
    (message,) = waiting(broker)
    args, kwargs, _ = body(message)
    assert (args, kwargs) == ([["job-1", "job-2"]], {})
    assert message["headers"]["task"] == "medq.vision"
    assert message["content-type"] == "application/json"


def test_a_long_list_becomes_messages_of_64_ids(broker: Redis, dispatcher: Dispatcher) -> None:
    ids = [f"job-{number}" for number in range(2 * LARGEST_MESSAGE + 1)]
    assert send(dispatcher, ids)
    lists = [body(message)[0][0] for message in waiting(broker)]
    assert [len(chunk) for chunk in lists] == [64, 64, 1]
    assert [job_id for chunk in lists for job_id in chunk] == ids


def test_no_ids_send_no_message(broker: Redis, dispatcher: Dispatcher) -> None:
    assert send(dispatcher, [])
    assert waiting(broker) == []


@pytest.mark.parametrize("warm", [True, False])
def test_a_dead_broker_costs_next_to_nothing(
    broker: Redis, cost: Cost, dispatcher: Dispatcher, warm: bool
) -> None:
    if warm:
        assert send(dispatcher, ["first"])
    broker.kill()
    sent, first = cost.of(lambda: send(dispatcher, ["job"]))
    again, later = cost.of(lambda: send(dispatcher, ["job"]))
    assert (sent, again) == (False, False)
    assert first.ran_out_s == []
    assert first.connects <= 1
    assert later == Met()


@on_socket
@pytest.mark.parametrize("warm", [True, False])
def test_a_frozen_broker_costs_one_second_once(
    broker: Redis, cost: Cost, dispatcher: Dispatcher, warm: bool
) -> None:
    if warm:
        assert send(dispatcher, ["first"])
    with broker.frozen():
        sent, first = cost.of(lambda: send(dispatcher, ["job"]))
        again, later = cost.of(lambda: send(dispatcher, ["job"]))
    assert (sent, again) == (False, False)
    assert first.ran_out_s == [1.0]
    assert later == Met()


@on_socket
def test_threads_do_not_wait_for_a_frozen_broker_one_after_the_other(
    broker: Redis, cost: Cost, dispatcher: Dispatcher
) -> None:
    all_wait = threading.Barrier(32, timeout=60)
    cost.before_reading = all_wait.wait  # broken by one who waits for another's time-out first
    with broker.frozen(), ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: cost.of(lambda: send(dispatcher, ["job"])), range(32)))
    assert [(sent, met.ran_out_s) for sent, met in answers] == [(False, [1.0])] * 32


def test_a_broker_that_came_back_is_used_again(
    broker: Redis, dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared.queue, "BREAKER_S", 3600.0)
    broker.kill()
    assert not send(dispatcher, ["lost"])
    broker.restore()
    assert not send(dispatcher, ["too early"])
    dispatcher._open_until -= 3600.0  # an hour later
    assert send(dispatcher, ["job"])
    assert [body(message)[0] for message in waiting(broker)] == [[["job"]]]


def test_a_hint_carries_ids_and_versions_to_every_subscriber(hints: Hints) -> None:
    subscriptions = [hints.subscribe(), hints.subscribe()]
    for subscription in subscriptions:  # the confirmations of both channels, which are no hints
        assert [subscription.get_message(timeout=30) for _ in (HINTS, DRAFTS)] == [None, None]
    hints.publish({"job-1": 3, "job-2": 1})
    for subscription in subscriptions:
        message = subscription.get_message(timeout=30)
        assert json.loads(message["data"]) == {"job-1": 3, "job-2": 1}
        subscription.close()


def test_hints_never_raise_when_the_broker_is_dead(broker: Redis, hints: Hints) -> None:
    broker.kill()
    hints.publish({"job": 1})
    assert not hints.ping()
    with pytest.raises(redis.RedisError):
        hints.subscribe()


@on_socket
def test_hints_to_a_frozen_broker_cost_one_second_once(broker: Redis, cost: Cost, hints: Hints) -> None:
    with broker.frozen():
        _, first = cost.of(lambda: hints.publish({"job": 1}))
        _, later = cost.of(lambda: hints.publish({"job": 2}))
    assert first.ran_out_s == [1.0]
    assert later == Met()


def test_a_broker_that_answers_pings_says_so(hints: Hints) -> None:
    assert hints.ping()


def test_a_channel_whose_connection_was_closed_raises_what_workers_connect_again_for(
    settings: Settings,
) -> None:
    with make_celery(settings).connection_for_read() as connection:
        channel, known = connection.default_channel, connection.connection_errors
        connection.close()
        with pytest.raises(known):
            channel.conn_or_acquire().__enter__()


def test_a_lost_broker_is_looked_for_at_one_pace(
    settings: Settings, broker: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared.transports, "RECONNECT_S", 0.01)
    broker.kill()
    pauses: list[float] = []
    with make_celery(settings).connection_for_read() as connection, pytest.raises(OperationalError):
        connection.ensure_connection(lambda error, pause: pauses.append(pause), max_retries=5)
    assert pauses == [0.01] * 5


@pytest.mark.timeout(60)  # what is broken waits for ever
def test_a_lost_subscription_is_not_restored_without_its_channels(broker: Redis, settings: Settings) -> None:
    """The server is back before the loop of a busy worker looks: Celery must hear that the connection was lost."""
    with make_celery(settings).connection_for_read() as connection:
        channel = connection.default_channel
        Queue("told", Exchange("told", "fanout"), channel=channel).declare()
        channel.basic_consume("told", no_ack=True, callback=print, consumer_tag="told")
        connection.transport.cycle.on_poll_start()
        channel.handlers["LISTEN"]()  # Redis confirms the subscription
        broker.restart()
        with pytest.raises(connection.connection_errors):
            channel.handlers["LISTEN"]()
