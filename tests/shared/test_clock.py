"""A database whose clock was set back: rows from the future go on, and honest ones are left alone."""

from collections.abc import Callable

import pytest
from sqlalchemy import select, update

from shared import batches, clock, jobs
from shared.batches import NewBatch
from shared.database import Database
from shared.errors import OutOfMemory
from shared.ids import new_id
from shared.job_types import Claim, NewJob, Outcome
from shared.lifecycle import Event
from shared.settings import Settings
from shared.tables import BatchRow, JobRow

HOUR_US = 3600 * 10**6
TIMES = ("created_at", "started_at", "not_before", "due_at", "lease_until", "limit_at")
Make = Callable[..., NewJob]


@pytest.fixture
def chosen(settings: Callable[..., Settings]) -> Settings:
    return settings(lease_s=10.0, redispatch_s=30.0)


def set_back(database: Database, us: int = HOUR_US) -> None:
    """The same as a clock that is set back: all that was noted so far lies ahead."""

    def work(session):  # type: ignore[no-untyped-def]
        session.execute(update(JobRow).values({name: getattr(JobRow, name) + us for name in TIMES}))
        of_batches = ("created_at", "due_at", "lease_until")
        session.execute(update(BatchRow).values({name: getattr(BatchRow, name) + us for name in of_batches}))

    database.write(work)


def claim(database: Database, *ids: str) -> Claim:
    return jobs.claim(database, list(ids), "vision", "worker", lease_s=10, limit_s=60)


def test_queued_jobs_can_be_claimed_and_are_dispatched_again(
    database: Database, job_factory: Make, chosen: Settings
) -> None:
    new, retried = job_factory(), job_factory()
    held = claim(database, retried.id)
    late = Outcome(retried.id, held.id, Event.RETRY, error=OutOfMemory(), pause_s=200)
    jobs.record(database, [late], max_attempts=3, redispatch_s=30)
    set_back(database)
    assert claim(database, new.id, retried.id).jobs == ()
    assert jobs.due(database, 30) == []
    assert clock.bring_back(database, chosen) == 2
    assert {row.id for row in jobs.due(database, 30)} == {new.id, retried.id}
    assert len(claim(database, new.id, retried.id).jobs) == 2


def test_a_dead_workers_lease_ends_in_its_time(
    database: Database, job_factory: Make, chosen: Settings
) -> None:
    job = job_factory()
    held = claim(database, job.id)
    set_back(database)
    assert clock.bring_back(database, chosen) == 1
    left = database.read(lambda s: s.get_one(JobRow, job.id)).lease_until
    assert left is not None
    soon = update(JobRow).values(lease_until=left - 11 * 10**6)  # eleven seconds later
    database.write(lambda s: s.execute(soon))
    assert list(jobs.reap(database, 3)) == [job.id]
    done = Outcome(job.id, held.id, Event.ADVANCE, stage="answer")
    assert jobs.record(database, [done], max_attempts=3, redispatch_s=30) == {}


def test_archives_go_on(database: Database, chosen: Settings) -> None:
    waits, held = NewBatch(new_id()), NewBatch(new_id())
    for new in (waits, held):
        assert batches.create(database, new, 30)
    assert batches.claim(database, held.id, lease_s=10, max_attempts=3)
    set_back(database)
    assert batches.due(database, 30) == []
    assert clock.bring_back(database, chosen) == 3
    assert set(batches.due(database, 30)) == {waits.id, held.id}


def test_an_honest_clocks_rows_are_left_alone(
    database: Database, job_factory: Make, chosen: Settings
) -> None:
    job_factory(redispatch_s=30)
    held = claim(database, job_factory().id)
    jobs.heartbeat(database, [held.id], 10)
    paused = job_factory()
    first = claim(database, paused.id)
    late = Outcome(paused.id, first.id, Event.RETRY, error=OutOfMemory(), pause_s=300)
    jobs.record(database, [late], max_attempts=3, redispatch_s=30)
    batch = NewBatch(new_id())
    batches.create(database, batch, 30)
    batches.claim(database, batch.id, lease_s=10, max_attempts=3)
    doubled = job_factory(redispatch_s=0)
    for _ in range(12):
        jobs.due(database, 30)
        now_due = update(JobRow).where(JobRow.id == doubled.id).values(due_at=0)
        database.write(lambda s, again=now_due: s.execute(again))
    jobs.due(database, 30)
    before = database.read(lambda s: s.execute(select(JobRow.id, JobRow.due_at, JobRow.lease_until)).all())
    assert clock.bring_back(database, chosen) == 0
    after = database.read(lambda s: s.execute(select(JobRow.id, JobRow.due_at, JobRow.lease_until)).all())
    assert after == before
