"""Leases, dispatch and the ends of a job that nobody asked a worker for, on both databases."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import event, select

from shared import jobs
from shared.audit import NOBODY
from shared.database import SECOND, Database
from shared.errors import AttemptsExhausted, OutOfMemory
from shared.idempotency import Idempotency
from shared.ids import new_id
from shared.job_types import NewJob, Outcome
from shared.lifecycle import Event, Status
from shared.tables import ArtifactRow, AttemptRow, IdempotencyRow
from tests.shared.job_steps import (
    CAP,
    MASK,
    alter,
    attempts,
    claim,
    columns,
    count,
    in_status,
    lapse,
    record,
    row,
)

# ---- Leases ----


def test_a_heartbeat_extends_the_leases_of_its_claims_only(database: Database, job_factory) -> None:
    mine, other = claim(database, job_factory().id), claim(database, job_factory().id)
    ids = [one.jobs[0].id for one in (mine, other)]
    for job_id in ids:
        alter(database, job_id, lease_until=5)
    assert jobs.heartbeat(database, [mine.id, "gone"], 30) == {mine.id: [ids[0]]}
    assert (row(database, ids[0]).lease_until or 0) > time.time_ns() // 1000
    assert row(database, ids[1]).lease_until == 5


def test_a_heartbeat_never_extends_past_the_limit(database: Database, job_factory) -> None:
    won = claim(database, job_factory().id)
    jobs.heartbeat(database, [won.id], 3600)
    stored = row(database, won.jobs[0].id)
    assert stored.lease_until == stored.limit_at


def test_a_heartbeat_tells_what_was_taken_away(database: Database, job_factory) -> None:
    ids = [job_factory().id for _ in range(3)]
    won = claim(database, *ids)
    jobs.cancel(database, ids[0])
    assert jobs.heartbeat(database, [won.id], 30) == {won.id: sorted(ids[1:])}
    assert jobs.heartbeat(database, [], 30) == {}


def test_a_lost_job_waits_again_and_is_due_at_once(database: Database, job_factory) -> None:
    job, healthy = job_factory(), job_factory()
    claim(database, job.id)
    claim(database, healthy.id)
    lapse(database, job.id)
    assert jobs.reap(database, CAP) == {job.id: 3}
    stored = row(database, job.id)
    assert (stored.status, stored.failures, stored.lost) == ("queued", 1, 1)
    assert [one.id for one in jobs.due(database, 30)] == [job.id]
    assert row(database, healthy.id).status == "running"


def test_a_job_that_is_lost_too_often_fails(database: Database, job_factory) -> None:
    job = job_factory()
    for _ in range(CAP):
        claim(database, job.id)
        lapse(database, job.id)
        jobs.reap(database, CAP)
    stored = row(database, job.id)
    assert (stored.status, stored.error_slug) == ("failed", AttemptsExhausted.slug)
    assert stored.error_detail == AttemptsExhausted().detail
    assert [outcome for _, _, outcome, _ in attempts(database, job.id)] == ["lose", "lose", "fail"]


def test_a_loss_keeps_the_error_that_says_more(database: Database, job_factory) -> None:
    job = job_factory()
    for _ in range(CAP - 1):
        won = claim(database, job.id)
        record(database, Outcome(job.id, won.id, Event.RETRY, error=OutOfMemory("12 GB asked")))
    claim(database, job.id)
    lapse(database, job.id)
    jobs.reap(database, CAP)
    stored = row(database, job.id)
    assert (stored.status, stored.error_slug, stored.error_detail) == (
        "failed",
        "out-of-memory",
        "12 GB asked",
    )


def test_two_sweepers_reap_a_job_once(database: Database, job_factory) -> None:
    ids = [job_factory().id for _ in range(20)]
    claim(database, *ids)
    for job_id in ids:
        lapse(database, job_id)
    with ThreadPoolExecutor(4) as pool:
        reaped = [
            job_id for part in pool.map(lambda _: jobs.reap(database, CAP), range(4)) for job_id in part
        ]
    assert sorted(reaped) == sorted(ids)
    assert {row(database, job_id).failures for job_id in ids} == {1}


# ---- Dispatch ----


def test_a_waiting_job_is_dispatched_again_at_doubling_intervals(database: Database, job_factory) -> None:
    job = job_factory(redispatch_s=0)
    pauses = []
    for _ in range(9):
        alter(database, job.id, due_at=1)
        before = time.time_ns() // 1000
        assert [one.id for one in jobs.due(database, 30)] == [job.id]
        pauses.append(round((row(database, job.id).due_at - before) / SECOND / 30))
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 64, 64]
    assert jobs.due(database, 30) == []


def test_the_oldest_are_due_first(database: Database, job_factory) -> None:
    ids = [job_factory().id for _ in range(4)]
    for position, job_id in enumerate(ids):
        alter(database, job_id, due_at=10 - position)
    assert [one.id for one in jobs.due(database, 30, limit=2)] == [ids[3], ids[2]]


def test_what_runs_or_has_ended_is_not_due(database: Database, job_factory) -> None:
    for status in Status:
        job = job_factory()
        in_status(database, status, job.id)
        alter(database, job.id, due_at=1 if status is not Status.QUEUED else 2**60)
    assert jobs.due(database, 30) == []


def test_two_sweepers_dispatch_a_job_once(database: Database, job_factory) -> None:
    ids = [job_factory(redispatch_s=0).id for _ in range(40)]
    with ThreadPoolExecutor(4) as pool:
        sent = [one.id for part in pool.map(lambda _: jobs.due(database, 30), range(4)) for one in part]
    assert sorted(sent) == sorted(ids)


# ---- Cancel, expire, erase ----


def test_canceling_a_running_job_closes_its_attempt_and_locks_out_its_worker(
    database: Database, job_factory
) -> None:
    job = job_factory()
    won = claim(database, job.id)
    assert jobs.cancel(database, job.id)
    assert attempts(database, job.id) == [(1, "vision", "cancel", None)]
    assert record(database, Outcome(job.id, won.id, Event.FINISH)) == {}


def test_canceling_one_job_spares_its_neighbours(database: Database, job_factory) -> None:
    ids = [job_factory().id for _ in range(3)]
    won = claim(database, *ids)
    jobs.cancel(database, ids[1])
    assert set(record(database, *(Outcome(job_id, won.id, Event.FINISH) for job_id in ids))) == {
        ids[0],
        ids[2],
    }


@pytest.mark.parametrize("job_id", ["nobody", "é", ""])
def test_nobodys_job_cannot_be_canceled_or_erased(database: Database, job_id: str) -> None:
    assert not jobs.cancel(database, job_id)
    assert not jobs.erase(database, job_id, NOBODY)


def test_only_jobs_past_their_deadline_expire(database: Database, job_factory) -> None:
    late, early, free = job_factory(expires_in_s=-1), job_factory(expires_in_s=600), job_factory()
    assert jobs.expire(database) == {late.id: 2}
    assert [row(database, job.id).status for job in (early, free)] == ["queued", "queued"]


def test_erasing_leaves_the_bare_row(database: Database, job_factory) -> None:
    new = NewJob(
        new_id(), "skin", "q", "en", "vision", True, age=45, sex="female", site="back", filename="mole.jpg",
        client_metadata={"ward": 3}, sha256="0" * 64, artifacts=(MASK,),
    )  # fmt: skip
    jobs.create(database, new, 30, Idempotency("k" * 64, "c" * 64))
    won = claim(database, new.id)
    values = {"findings": [{"label": "mel"}], "answer": {"text": "a"}, "warnings": [], "segments": []}
    record(database, Outcome(new.id, won.id, Event.FAIL, values=values, error=OutOfMemory("of her mole")))

    assert jobs.erase(database, new.id, NOBODY)

    stored = columns(database, new.id)
    personal = ("question", "age", "sex", "site", "client_metadata", "filename", "sha256", "findings", "grades",
                "segments", "warnings", "answer", "error_detail")  # fmt: skip
    assert {name: stored[name] for name in personal} == dict.fromkeys(personal)
    assert (stored["id"], stored["pipeline"], stored["status"]) == (new.id, "skin", "failed")
    assert stored["erased_at"] is not None
    assert (count(database, ArtifactRow), count(database, IdempotencyRow)) == (0, 0)
    assert attempts(database, new.id)


@pytest.mark.parametrize("status", [Status.QUEUED, Status.RUNNING])
def test_a_job_that_has_not_ended_keeps_all_it_has(database: Database, job_factory, status: Status) -> None:
    job = job_factory(artifacts=(MASK,))
    in_status(database, status, job.id)
    before = columns(database, job.id)
    assert not jobs.erase(database, job.id, NOBODY)
    assert columns(database, job.id) == before
    assert count(database, ArtifactRow) == 1


# ---- Clock ----


def test_every_time_of_a_job_is_the_databases(database: Database, job_factory) -> None:
    """A database that lives in 2001, beside a machine that does not."""
    then = 1_000_000_000 * SECOND

    @event.listens_for(database.engine, "checkout")
    def set_back(connection: Any, record: Any, proxy: Any) -> None:
        if database.engine.dialect.name == "sqlite":
            connection.create_function("medq_now_us", 0, lambda: then)
        else:
            with connection.cursor() as cursor:
                cursor.execute("SET TIMESTAMP = 1000000000")

    done, canceled = job_factory(redispatch_s=30, expires_in_s=60), job_factory()
    won = claim(database, done.id)
    assert jobs.heartbeat(database, [won.id], 30)
    held = row(database, done.id)
    assert (held.lease_until, held.limit_at) == (then + 30 * SECOND, then + 60 * SECOND)
    record(database, Outcome(done.id, won.id, Event.FINISH))
    jobs.cancel(database, canceled.id)
    jobs.erase(database, done.id, NOBODY)
    ended = row(database, done.id)
    assert ended.due_at == ended.not_before == then
    assert ended.deadline_at == then + 60 * SECOND
    assert {ended.created_at, ended.started_at, ended.completed_at, ended.erased_at} == {then}
    assert row(database, canceled.id).completed_at == then
    with database.engine.connect() as connection:
        assert set(connection.execute(select(AttemptRow.started_at, AttemptRow.ended_at)).one()) == {then}
