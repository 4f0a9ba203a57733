"""Task events in groups: Flower is told five times a second, and not at every event."""

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from redis.exceptions import ConnectionError

from workers.consume import GroupedEvents


class Timer:
    """Keeps what is to be repeated, for the test to call."""

    def __init__(self) -> None:
        self.repeated: list[Any] = []
        self.canceled = 0

    def call_repeatedly(self, seconds: float, work: Any) -> SimpleNamespace:
        self.repeated.append(work)
        return SimpleNamespace(cancel=self._cancel)

    def _cancel(self) -> None:
        self.canceled += 1


class Consumer:
    """A consumer's events, with a list where the broker would be."""

    def __init__(self) -> None:
        self.told: list[int] = []
        self.timer = Timer()
        app = Celery(broker="memory://", set_as_current=False)
        self.event_dispatcher = app.events.Dispatcher(
            app.connection_for_write(), buffer_group=["task"], on_send_buffered=self._flush_events
        )
        self.event_dispatcher._publish = lambda events, *_, **__: self.told.append(len(events))

    def _flush_events(self) -> None:
        self.event_dispatcher.flush()

    def events(self, count: int) -> None:
        for _ in range(count):
            self.event_dispatcher.send("task-received")


def test_celery_itself_tells_of_each_event() -> None:
    consumer = Consumer()
    consumer.events(3)
    assert consumer.told == [1, 1, 1]


def test_events_wait_for_the_timer_and_go_together() -> None:
    consumer = Consumer()
    GroupedEvents(consumer).start(consumer)
    consumer.events(3)
    assert consumer.told == []
    (flush,) = consumer.timer.repeated
    flush()
    assert consumer.told == [3]


def test_the_last_events_are_told_at_the_end() -> None:
    consumer = Consumer()
    step = GroupedEvents(consumer)
    step.start(consumer)
    consumer.events(2)
    step.stop(consumer)
    assert (consumer.told, consumer.timer.canceled) == ([2], 1)


def test_stopping_raises_neither_before_a_start_nor_without_a_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = Consumer()
    step = GroupedEvents(consumer)
    step.stop(consumer)
    step.start(consumer)

    def dead() -> None:
        raise ConnectionError()

    monkeypatch.setattr(consumer, "_flush_events", dead)
    step.stop(consumer)
