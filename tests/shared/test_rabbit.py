"""RabbitMQ as the broker: what a message holds, and how little one that is away may cost."""

from collections.abc import Iterator

import amqp
import pytest
from kombu.exceptions import OperationalError

import shared.transports
from shared.queue import Dispatcher, broker_answers, make_celery, queue_name
from shared.settings import Settings
from tests.rabbit import PASSWORD, Rabbit
from tests.sockets import Cost, Met

NOBODY = "amqp://127.0.0.1:1//"
QUEUE = queue_name("vision", "skin", "interactive")


@pytest.fixture
def rabbit(rabbit_server: Rabbit) -> Rabbit:
    """The session's, running, with an empty queue."""
    rabbit_server.restore()
    waiting(rabbit_server)  # not deleted: kombu believes that what it once declared is there
    return rabbit_server


@pytest.fixture
def settings(rabbit: Rabbit) -> Settings:
    return Settings(broker_url=rabbit.url)


@pytest.fixture
def dispatcher(settings: Settings) -> Iterator[Dispatcher]:
    made = Dispatcher(settings)
    yield made
    made.close()


def send(dispatcher: Dispatcher, ids: list[str]) -> bool:
    return dispatcher.dispatch(ids, "vision", "skin", "interactive")


def waiting(rabbit: Rabbit) -> list[amqp.Message]:
    found = []
    with rabbit.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(QUEUE, durable=True, auto_delete=False)
        while message := channel.basic_get(QUEUE, no_ack=True):
            found.append(message)
    return found


def test_a_message_holds_job_ids_as_json_and_is_kept_in_memory_alone(
    rabbit: Rabbit, dispatcher: Dispatcher
) -> None:
    assert send(dispatcher, ["job-1", "job-2"])
    (message,) = waiting(rabbit)
    assert message.body.startswith('[[["job-1", "job-2"]], {}')
    assert message.properties["content_type"] == "application/json"
    assert message.properties["delivery_mode"] == 1


def test_a_connection_that_it_closed_since_the_last_message_loses_none(
    rabbit: Rabbit, dispatcher: Dispatcher
) -> None:
    assert send(dispatcher, ["before"])
    rabbit.restart()
    assert send(dispatcher, ["job"])
    assert len(waiting(rabbit)) == 1


def test_one_that_is_dead_costs_two_tries_and_no_time_out(
    rabbit: Rabbit, cost: Cost, dispatcher: Dispatcher
) -> None:
    assert send(dispatcher, ["first"])
    rabbit.kill()
    sent, first = cost.of(lambda: send(dispatcher, ["job"]))
    again, later = cost.of(lambda: send(dispatcher, ["job"]))
    assert (sent, again) == (False, False)
    assert first.ran_out_s == []
    assert first.connects <= 2
    assert later == Met()


@pytest.mark.parametrize("warm", [True, False])
def test_one_that_is_frozen_costs_one_second_once(
    rabbit: Rabbit, cost: Cost, dispatcher: Dispatcher, warm: bool
) -> None:
    if warm:
        assert send(dispatcher, ["first"])
    with rabbit.frozen():
        sent, first = cost.of(lambda: send(dispatcher, ["job"]))
        again, later = cost.of(lambda: send(dispatcher, ["job"]))
    assert (sent, again) == (False, False)
    assert first.ran_out_s == [1.0]
    assert later == Met()


def test_a_word_that_comes_too_late_is_not_taken_for_the_next_message(
    rabbit: Rabbit, cost: Cost, dispatcher: Dispatcher
) -> None:
    assert send(dispatcher, ["first"])
    with rabbit.frozen():
        assert not send(dispatcher, ["late"])
    dispatcher._open_until -= 3600.0  # an hour later
    sent, met = cost.of(lambda: send(dispatcher, ["job"]))
    assert (sent, met.connects) == (True, 1)  # not by the connection on which that word lies


def test_it_answers_whom_it_lets_in(settings: Settings, rabbit: Rabbit) -> None:
    assert broker_answers(settings)
    assert not broker_answers(Settings(broker_url=rabbit.url.replace(PASSWORD, "wrong")))
    assert not broker_answers(Settings(broker_url=NOBODY))


def test_a_worker_looks_for_it_at_one_pace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared.transports, "RECONNECT_S", 0.01)
    pauses: list[float] = []
    with (
        make_celery(Settings(broker_url=NOBODY)).connection_for_read() as connection,
        pytest.raises(OperationalError),
    ):
        connection.ensure_connection(lambda error, pause: pauses.append(pause), max_retries=5)
    assert pauses == [0.01] * 5
