"""Runs Celery's worker in this process, with task events told in groups."""

from contextlib import suppress
from typing import Any

from celery import Celery
from celery.bootsteps import StartStopStep

from shared.queue import BROKER_ERRORS

EVENTS_S = 0.2  # how long Flower may be behind


class GroupedEvents(StartStopStep):  # type: ignore[misc]
    """Celery tells of each task at the next turn of its loop: with single ids one PUBLISH for every event.

    That was two fifths of what the loop computed. Heartbeats, which are not buffered, are told at once as before.
    Source: celery.events.EventDispatcher.send, and the worker's blueprint in Celery's "Extensions and Bootsteps"
    """

    requires = ("celery.worker.consumer.events:Events",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        consumer.event_dispatcher.on_send_buffered = None
        self._timer = consumer.timer.call_repeatedly(EVENTS_S, consumer._flush_events)

    def stop(self, consumer: Any) -> None:
        """Also called where no start came first, and after the broker has died: events are worth no worker."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        with suppress(*BROKER_ERRORS):
            consumer._flush_events()


def consume(celery: Celery, name: str, threads: int) -> None:
    celery.steps["consumer"].add(GroupedEvents)
    celery.worker_main(
        [
            "--quiet",
            "worker",
            "--pool=threads",
            f"--concurrency={threads}",
            f"--hostname={name}@%h",
            "--without-gossip",
            "--without-mingle",
            "--task-events",
            "--loglevel=WARNING",
        ]
    )
