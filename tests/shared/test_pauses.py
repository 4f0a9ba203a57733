"""Pauses on both databases: what they hold back, what they do not, and that lifting one sends its jobs on."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select, update

from shared import batches, jobs, pauses, window
from shared.catalog import PIPELINES
from shared.database import Database, now_us
from shared.job_types import Outcome
from shared.lifecycle import Event
from shared.tables import JobRow
from tests.shared.test_window import batch


def claimed(database: Database, *ids: str) -> set[str]:
    claim = jobs.claim(database, ids, "vision", "worker", lease_s=30, limit_s=60)
    return {job.id for job in claim.jobs}


@pytest.mark.parametrize(
    ("pipeline", "lane", "held"),
    [
        ("all", "all", {"skin people", "skin archive", "lesion people"}),
        ("skin", "all", {"skin people", "skin archive"}),
        ("skin", "bulk", {"skin archive"}),
        ("all", "interactive", {"skin people", "lesion people"}),
        ("scalp", "all", set()),
    ],
)
def test_a_pause_holds_its_own_jobs_and_no_others(
    database: Database, job_factory: Callable[..., Any], pipeline: str, lane: str, held: set[str]
) -> None:
    ids = {
        "skin people": job_factory().id,
        "skin archive": job_factory(lane="bulk").id,
        "lesion people": job_factory(pipeline="lesion").id,
    }
    pauses.add(database, pipeline, lane, None)
    free = claimed(database, *ids.values())
    assert {name for name, job_id in ids.items() if job_id not in free} == held


def test_nothing_paused_is_due(database: Database, job_factory: Callable[..., Any]) -> None:
    skin, lesion = job_factory(redispatch_s=0.0).id, job_factory(redispatch_s=0.0, pipeline="lesion").id
    pauses.add(database, "skin", "all", None)
    assert [row.id for row in jobs.due(database, 30)] == [lesion]
    assert pauses.lift(database, "skin", "all")
    assert [row.id for row in jobs.due(database, 30)] == [skin]


def test_no_message_of_a_paused_archive_goes_out(database: Database) -> None:
    batch(database, 3)
    pauses.add(database, "all", "bulk", None)
    assert window.fill(database, "vision", "skin", 4, 30) == []
    pauses.lift(database, "all", "bulk")
    assert [len(ids) for ids in window.fill(database, "vision", "skin", 4, 30)] == [3]


def test_an_archive_is_read_unless_everything_is_paused(database: Database) -> None:
    assert batches.create(database, batches.NewBatch("0" * 36), 0)
    pauses.add(database, "all", "all", None)
    assert batches.due(database, 30) == []
    assert batches.claim(database, "0" * 36, lease_s=30, max_attempts=3) is None
    pauses.lift(database, "all", "all")
    pauses.add(database, "skin", "all", None)
    assert batches.due(database, 0) == ["0" * 36]
    assert batches.claim(database, "0" * 36, lease_s=30, max_attempts=3)


def test_what_a_worker_has_begun_it_finishes(database: Database, job_factory: Callable[..., Any]) -> None:
    job_id = job_factory(answered=False).id
    claim = jobs.claim(database, [job_id], "vision", "worker", lease_s=30, limit_s=60)
    pauses.add(database, "all", "all", None)
    assert jobs.heartbeat(database, [claim.id], 30) == {claim.id: [job_id]}
    outcome = Outcome(job_id, claim.id, Event.FINISH)
    assert jobs.record(database, [outcome], max_attempts=3, redispatch_s=30)


def test_a_paused_job_can_be_canceled_and_expires(
    database: Database, job_factory: Callable[..., Any]
) -> None:
    first, second = job_factory().id, job_factory(expires_in_s=0.0).id
    pauses.add(database, "all", "all", None)
    assert jobs.cancel(database, first)
    assert set(jobs.expire(database)) == {second}


def test_the_same_pause_twice_is_one_with_the_last_note(database: Database) -> None:
    pauses.add(database, "skin", "all", "new weights")
    pauses.add(database, "skin", "all", "still")
    ((row),) = pauses.every(database)
    assert (row.pipeline, row.lane, row.note) == ("skin", "all", "still")
    assert pauses.lift(database, "skin", "all")
    assert not pauses.lift(database, "skin", "all")


def test_two_who_pause_at_once_both_succeed(database: Database) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: pauses.add(database, "skin", "all", str(n)), range(8)))
    assert len(pauses.every(database)) == 1


def test_no_pipeline_bears_the_name_that_means_all() -> None:
    assert pauses.ALL not in PIPELINES


def due_now(database: Database) -> set[str]:
    due = select(JobRow.id).where(JobRow.due_at <= now_us())
    return set(database.read(lambda session: session.scalars(due).all()))


def test_hurrying_makes_waiting_jobs_due_and_leaves_pauses_before_retries(
    database: Database, job_factory: Callable[..., Any]
) -> None:
    people, archive, other, paused, running = (
        job_factory(**one).id
        for one in (
            {},
            {"lane": "bulk"},
            {"pipeline": "lesion"},
            {"question": "paused"},
            {"question": "runs"},
        )
    )
    later = {"not_before": now_us() + 10**9, "due_at": now_us() + 10**9}
    database.write(lambda session: session.execute(update(JobRow).where(JobRow.id == paused).values(**later)))
    claimed(database, running)
    assert jobs.hurry(database, "skin", "interactive") == 1
    assert due_now(database) == {people}
    assert jobs.hurry(database, "all", "all") == 2
    assert due_now(database) == {people, archive, other}
    assert jobs.hurry(database, "all", "all") == 0


def test_hurrying_goes_in_steps_through_many(
    database: Database, job_factory: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "STEP", 2)
    ids = {job_factory().id for _ in range(5)}
    assert jobs.hurry(database, "all", "all") == 5
    assert due_now(database) == ids
