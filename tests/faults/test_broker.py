"""A broker that forgets, dies, hangs, repeats itself and talks nonsense: the database knows better."""

import random
import signal

import pytest

from shared.ids import new_id
from shared.queue import Dispatcher, queue_name
from tests import processes
from tests.faults.room import Room


def test_flushall(room: Room) -> None:
    """Messages are gone, whoever holds a job goes on with it: no attempt is lost."""
    rng = random.Random("flush")
    with room.met("FLUSHALL", times=room.times) as meeting:
        for _ in range(room.times):
            room.pause(rng.uniform(0, 0.5))
            room.redis.flush()
            meeting.recovered()
    assert set(meeting.outcomes) == {"advance", "finish"}


def test_broker_killed(room: Room) -> None:
    """And started again, empty. Workers find it by themselves."""
    workers = [one.pid for role in ("vision", "answer", "archive") for one in processes.of(room.system, role)]
    with room.met(f"{room.carrier} killed, restarted empty", times=room.times) as meeting:
        for _ in range(room.times):
            room.broker.kill()
            room.pause(1)
            room.broker.start()
            meeting.recovered()
    assert set(meeting.outcomes) == {"advance", "finish"}
    found = [one.pid for role in ("vision", "answer", "archive") for one in processes.of(room.system, role)]
    assert found == workers


def test_broker_is_back_before_a_worker_looks(room: Room) -> None:
    """A worker that was busy finds connections closed whose server has long come back."""
    with room.met(f"{room.carrier} restarted behind workers' backs", times=room.times) as meeting:
        for _ in range(room.times):
            workers = [p for role in ("vision", "answer", "archive") for p in processes.of(room.system, role)]
            for worker in workers:
                worker.send_signal(signal.SIGSTOP)
            room.broker.restart()
            for worker in workers:
                worker.send_signal(signal.SIGCONT)
            meeting.recovered()
    assert set(meeting.outcomes) == {"advance", "finish"}


def test_broker_frozen(room: Room) -> None:
    """For longer than every time-out, it takes connections and answers nothing: jobs are accepted all the same."""
    with room.met(f"{room.carrier} frozen") as meeting:
        with room.broker.frozen():
            room.people.leave(meeting.work)
            room.pause(15 if room.long else 3)
            room.people.leave(meeting.work)
        meeting.recovered()
    assert set(meeting.outcomes) == {"advance", "finish"}


def test_messages_come_twice_and_out_of_order(room: Room) -> None:
    """Everything that lies in a queue is put there once more, shuffled, while the workers hold still."""
    rng = random.Random("twice")
    repeated = 0
    with room.met("every message twice, shuffled", times=room.times) as meeting:
        for _ in range(room.times):
            workers = [p for role in ("vision", "answer") for p in processes.of(room.system, role)]
            for worker in workers:
                worker.send_signal(signal.SIGSTOP)
            for _ in range(3):
                room.people.leave(meeting.work)
            repeated += room.repeat(meeting.work, rng)
            for worker in workers:
                worker.send_signal(signal.SIGCONT)
            meeting.recovered()
    assert repeated > 0
    assert set(meeting.outcomes) == {"advance", "finish"}
    assert meeting.evidence
    assert all(len(meeting.evidence.tried(name)) == 2 for name in meeting.evidence.attempts)


def test_messages_of_unknown_jobs(room: Room) -> None:
    """Nobody's jobs, jobs of another stage, jobs that have ended, and ids that are none."""
    dispatcher = Dispatcher(room.settings)
    with room.met("messages of unknown jobs", times=room.times) as meeting:
        for _ in range(room.times):
            for stage in ("vision", "answer"):
                ids = [new_id(), "", "'; --", *room.ids(meeting.work)[-30:]]
                dispatcher.dispatch(ids, stage, "skin", "interactive")
            meeting.recovered()
    dispatcher.close()
    assert set(meeting.outcomes) == {"advance", "finish"}


@pytest.mark.long
def test_what_is_no_message(room: Room) -> None:
    """Celery ends at bytes that are no message; the process manager starts the worker again."""
    with room.met("bytes that are no message", times=3) as meeting, room.redis.client() as client:
        for stage in ("vision", "answer", "archive"):
            group = "skin" if stage == "vision" else "all"
            client.lpush(queue_name(stage, group, "bulk"), b"no message", b"{}", b'{"body": 7}')
            meeting.recovered()
    assert set(meeting.outcomes) <= {"advance", "finish", "lose"}
