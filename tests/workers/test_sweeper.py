"""The sweeper on both databases and a real Redis: what it ends, what it delivers, and that it may run twice."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shared import jobs
from shared.database import Database
from shared.figures import Figures
from shared.queue import Dispatcher, Hints
from shared.settings import Settings
from shared.storage import storage_of
from shared.tables import JobRow
from tests.servers import Redis
from workers.sweeper import Sweeper


@pytest.fixture
def sweeper(database: Database, settings: Callable[..., Settings]) -> Iterator[Callable[..., Sweeper]]:
    opened: list[Dispatcher | Hints] = []

    def make(figures: Figures | None = None, **overrides: Any) -> Sweeper:
        chosen = settings(**overrides)
        dispatcher, hints = Dispatcher(chosen), Hints(chosen)
        opened.extend((dispatcher, hints))
        storage = storage_of(chosen)
        return Sweeper(database, storage, dispatcher, hints, chosen, figures)

    yield make
    for one in opened:
        one.close()


def row(database: Database, job_id: str) -> JobRow:
    found = database.read(lambda session: session.get(JobRow, job_id))
    assert found is not None
    return found


def messages(broker: Redis, queue: str) -> list[list[str]]:
    """The id lists that wait in a queue."""
    return [
        json.loads(base64.b64decode(json.loads(raw)["body"]))[0][0]
        for raw in broker.client().lrange(queue, 0, -1)
    ]


def test_a_job_whose_message_was_lost_is_delivered_again_but_not_at_once(
    sweeper: Callable[..., Sweeper], job_factory: Any, broker: Redis
) -> None:
    waiting = job_factory(redispatch_s=0.0).id
    job_factory(redispatch_s=60.0)
    one = sweeper()
    one.sweep()
    one.sweep()
    assert messages(broker, "vision.skin.interactive") == [[waiting]]


def test_lost_jobs_wait_again_and_go_alone(
    sweeper: Callable[..., Sweeper], job_factory: Any, database: Database, broker: Redis
) -> None:
    ids = [job_factory().id for _ in range(3)]
    jobs.claim(database, ids, "vision", "dead", lease_s=0.0, limit_s=10)
    sweeper().sweep()
    assert {row(database, job_id).status for job_id in ids} == {"queued"}
    assert sorted(messages(broker, "vision.skin.interactive")) == sorted([job_id] for job_id in ids)


def test_what_it_does_is_counted(
    sweeper: Callable[..., Sweeper], job_factory: Any, database: Database
) -> None:
    figures = Figures()
    ids = [job_factory().id for _ in range(3)]
    jobs.claim(database, ids, "vision", "dead", lease_s=0.0, limit_s=10)
    job_factory(expires_in_s=0.0)
    sweeper(figures).sweep()
    counted = {
        action: figures.values()[f'medq_swept_total{{"action": "{action}"}}']
        for action in ("lost", "expired", "dispatched", "settled", "erased", "clock")
    }
    assert counted == {"lost": 3, "expired": 1, "dispatched": 3, "settled": 0, "erased": 0, "clock": 0}


def test_a_job_that_was_lost_too_often_fails(
    sweeper: Callable[..., Sweeper], job_factory: Any, database: Database
) -> None:
    job_id = job_factory().id
    one = sweeper(max_attempts=2)
    for _ in range(2):
        jobs.claim(database, [job_id], "vision", "dead", lease_s=0.0, limit_s=10)
        one.sweep()
    job = row(database, job_id)
    assert (job.status, job.error_slug) == ("failed", "attempts-exhausted")


def test_deadlines_end_jobs(sweeper: Callable[..., Sweeper], job_factory: Any, database: Database) -> None:
    late, early = job_factory(expires_in_s=0.0).id, job_factory(expires_in_s=600).id
    sweeper().sweep()
    assert (row(database, late).status, row(database, early).status) == ("expired", "queued")


def test_two_sweepers_deliver_a_job_once(
    sweeper: Callable[..., Sweeper], job_factory: Any, broker: Redis
) -> None:
    ids = {job_factory(redispatch_s=0.0).id for _ in range(30)}
    pair = [sweeper(), sweeper()]
    threads = [threading.Thread(target=one.sweep) for one in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    sent = [job_id for message in messages(broker, "vision.skin.interactive") for job_id in message]
    assert len(sent) == 30
    assert set(sent) == ids


def test_a_round_that_fails_does_not_end_the_sweeper(
    sweeper: Callable[..., Sweeper], job_factory: Any, database: Database, broker: Redis
) -> None:
    one = sweeper(sweep_s=0.05)
    failures = iter([RuntimeError("the database is away")])
    whole = one.sweep

    def sweep() -> None:
        for failure in failures:
            raise failure
        whole()

    one.sweep = sweep  # type: ignore[method-assign]
    job_id = job_factory(redispatch_s=0.0).id
    stop = threading.Event()
    thread = threading.Thread(target=one.run, args=(stop,))
    thread.start()
    for _ in range(1200):
        if messages(broker, "vision.skin.interactive"):
            break
        threading.Event().wait(0.05)
    stop.set()
    thread.join(60)
    assert messages(broker, "vision.skin.interactive") == [[job_id]]


def test_while_the_broker_is_away_no_job_waits_longer_for_it(
    sweeper: Callable[..., Sweeper], job_factory: Any, database: Database, broker: Redis
) -> None:
    job_id = job_factory(redispatch_s=0.0).id
    one = sweeper()
    broker.kill()
    one.sweep()
    assert row(database, job_id).dispatches == 0
    broker.restart()
    one.sweep()
    assert messages(broker, "vision.skin.interactive") == [[job_id]]
