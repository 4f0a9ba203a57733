"""A batch from its archive to its end, through real messages: the window refills itself, and sweepers catch what was lost."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import update

from shared import batches, jobs
from shared.database import Database
from shared.queue import Dispatcher, Hints
from shared.settings import Settings
from shared.storage import storage_of
from shared.tables import BatchRow, JobRow
from tests.servers import Redis
from tests.shared.test_batches import move
from tests.shared.test_window import batch
from workers.attempt import Attempts, Found
from workers.refill import Refiller
from workers.sweeper import Sweeper

VISION, ANSWER = "vision.skin.bulk", "answer.all.bulk"


class Instant:
    """A stage that finds the same in every picture."""

    def __init__(self, name: str) -> None:
        self.name = name

    def begin(self, job: JobRow, lost: Callable[[], bool]) -> Callable[[], Found]:
        return lambda: Found({"findings": []} if self.name == "vision" else {"answer": {"text": "a"}})

    def slow(self, job: JobRow) -> bool:
        return False


class Floor:
    """Workers of both stages without threads of their own: a test takes messages out of the broker by hand."""

    def __init__(self, database: Database, broker: Redis, settings: Settings) -> None:
        self.db, self.broker, self.settings = database, broker, settings
        self.dispatcher, self.hints = Dispatcher(settings), Hints(settings)
        self.refiller = Refiller(database, self.dispatcher, self.hints, settings)
        self.stages = {
            queue: Attempts(Instant(name), database, self.dispatcher, self.hints, settings, self.refiller)
            for queue, name in ((VISION, "vision"), (ANSWER, "answer"))
        }
        storage = storage_of(settings)
        self.sweeper = Sweeper(database, storage, self.dispatcher, self.hints, settings)

    def take(self, queue: str) -> list[str] | None:
        with self.broker.client() as client:
            raw = client.rpop(queue)
        return json.loads(base64.b64decode(json.loads(raw)["body"]))[0][0] if raw else None

    def work(self, queue: str, number: int) -> list[int]:
        """Deal with messages until so many ids have come; how many each had."""
        sizes: list[int] = []

        def come() -> bool:
            if ids := self.take(queue):
                self.stages[queue].message(ids)
                sizes.append(len(ids))
            return sum(sizes) >= number

        eventually(come)
        return sizes

    def waiting(self, queue: str) -> int:
        with self.broker.client() as client:
            return int(client.llen(queue))

    def close(self) -> None:
        for attempts in self.stages.values():
            attempts.close()
        self.refiller.close()
        self.dispatcher.close()
        self.hints.close()


@pytest.fixture
def floor(
    database: Database, broker: Redis, settings: Callable[..., Settings]
) -> Iterator[Callable[..., Floor]]:
    opened: list[Floor] = []

    def make(**overrides: Any) -> Floor:
        opened.append(Floor(database, broker, settings(**overrides)))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def read(database: Database, count: int, **columns: Any) -> str:
    """A batch of which every entry is a job."""
    batch_id = batch(database, count, **columns)
    claim_id = database.read(lambda s: s.get_one(BatchRow, batch_id).claim_id)
    assert batches.end_reading(database, batch_id, claim_id or "", None)
    return batch_id


def status(database: Database, batch_id: str) -> str:
    return database.read(lambda s: s.get_one(BatchRow, batch_id).status)


def settled(database: Database, batch_id: str, wanted: str) -> bool:
    return eventually(lambda: status(database, batch_id) == wanted)


def eventually(condition: Callable[[], bool]) -> bool:
    for _ in range(6000):
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_the_sweeper_sends_a_window_and_whoever_ends_a_message_sends_the_next(
    floor: Callable[..., Floor], database: Database
) -> None:
    room = floor(bulk_window=2)
    batch_id = read(database, 300)
    room.sweeper.sweep()
    room.sweeper.sweep()
    assert room.waiting(VISION) == 2
    assert room.work(VISION, 300) == [64, 64, 64, 64, 44]
    assert settled(database, batch_id, "completed")


def test_answers_follow_through_a_window_of_their_own(
    floor: Callable[..., Floor], database: Database
) -> None:
    room = floor(bulk_window=2, bulk_answers=3)
    batch_id = read(database, 10, answered=True)
    room.sweeper.sweep()
    assert room.work(VISION, 10) == [10]
    assert eventually(lambda: room.waiting(ANSWER) == 3)
    assert status(database, batch_id) == "running"
    assert room.work(ANSWER, 10) == [1] * 10
    assert settled(database, batch_id, "completed")


def test_a_persons_job_is_not_behind_a_batch(
    floor: Callable[..., Floor], database: Database, job_factory: Any
) -> None:
    room = floor(bulk_window=2)
    read(database, 1000)
    room.sweeper.sweep()
    person = job_factory(redispatch_s=0).id
    room.sweeper.sweep()
    assert room.waiting(VISION) == 2
    assert room.take("vision.skin.interactive") == [person]


def test_what_a_dead_broker_did_not_take_is_sent_when_it_is_back(
    floor: Callable[..., Floor], database: Database, broker: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.queue.BREAKER_S", 0.1)
    room = floor(bulk_window=2)
    batch_id = read(database, 100)
    broker.kill()
    room.refiller.ask("vision", "skin")
    time.sleep(0.3)
    room.sweeper.sweep()
    broker.restart()

    def swept() -> bool:  # the breakers close after a tenth of a second
        room.sweeper.sweep()
        return room.waiting(VISION) > 0

    assert eventually(swept)
    assert room.work(VISION, 100) == [64, 36]
    assert settled(database, batch_id, "completed")


def test_a_broker_that_forgot_everything_costs_a_pause_and_no_job(
    floor: Callable[..., Floor], database: Database, broker: Redis
) -> None:
    room = floor(bulk_window=2, redispatch_s=3600.0)
    batch_id = read(database, 200)
    room.sweeper.sweep()
    broker.flush()
    room.sweeper.sweep()
    assert room.waiting(VISION) == 0
    database.write(lambda s: s.execute(update(JobRow).values(due_at=1)))  # an hour later
    room.sweeper.sweep()
    assert sum(room.work(VISION, 200)) == 200
    assert settled(database, batch_id, "completed")


def test_the_sweeper_ends_what_nobody_else_did(floor: Callable[..., Floor], database: Database) -> None:
    room = floor()
    done, canceled = read(database, 3), read(database, 1200)
    move(database, done, "succeeded", 0, 1, 2)
    assert batches.cancel(database, canceled)
    for _ in range(3):
        room.sweeper.sweep()
    assert status(database, done) == "completed"
    row = database.read(lambda s: s.get_one(BatchRow, canceled))
    assert (row.status, row.completed_at is not None) == ("canceled", True)
    counts = database.read(lambda s: batches.counts(s, [canceled]))[canceled]
    assert counts.canceled == 1200
    assert room.waiting(VISION) == 0


def test_an_archive_that_nobody_reads_is_sent_again(floor: Callable[..., Floor], database: Database) -> None:
    room = floor()
    new = batches.NewBatch("01a1f796-a3bd-7633-bc2d-73b18dc3432d")
    assert batches.create(database, new, redispatch_s=0)
    room.sweeper.sweep()
    room.sweeper.sweep()
    assert room.take("archive.all.bulk") == [new.id]
    assert room.take("archive.all.bulk") is None


def test_a_stage_that_fails_ends_the_batch_as_well(floor: Callable[..., Floor], database: Database) -> None:
    room = floor()
    batch_id = read(database, 3)
    move(database, batch_id, "failed", 0)
    room.sweeper.sweep()
    assert room.work(VISION, 2) == [2]
    assert settled(database, batch_id, "completed")
    assert database.read(lambda s: batches.counts(s, [batch_id]))[batch_id].failed == 1
    assert jobs.due(database, 30) == []
