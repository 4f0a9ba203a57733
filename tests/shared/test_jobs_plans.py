"""What the statements of shared/jobs.py cost once there are thousands of jobs: none walks the table."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, insert, select

from shared import batches, jobs, window
from shared.audit import NOBODY
from shared.database import Database
from shared.ids import new_id
from shared.job_types import Claim, Outcome
from shared.lifecycle import Event, Status
from shared.tables import JobRow
from tests.shared.test_window import batch

ENDED, QUEUED, RUNNING = 2500, 2500, 64
NEVER = 10**17


@pytest.fixture
def crowd(database: Database) -> list[dict[str, Any]]:
    """Thousands of jobs in every status, with the statistics that planners go by."""
    rng = random.Random(0)
    statuses = [Status.SUCCEEDED] * ENDED + [Status.RUNNING] * RUNNING + [Status.QUEUED] * QUEUED
    claims = [new_id() for _ in range(8)]
    rows = [
        {
            "id": new_id(),
            **{"pipeline": "skin", "lang": "en", "answered": True, "external": True, "created_at": 1},
            **{"status": status.value, "stage": rng.choice(["vision", "answer"])},
            **{"lane": rng.choice(["interactive", "bulk"]), "not_before": 1},
            "due_at": 1 if rng.random() < 0.01 else NEVER,
            "claim_id": rng.choice(claims) if status is Status.RUNNING else None,
            "lease_until": rng.choice([1, NEVER, NEVER, NEVER]) if status is Status.RUNNING else None,
            "deadline_at": rng.choice([1, NEVER]) if rng.random() < 0.01 else None,
        }
        for status in statuses
    ]
    database.write(lambda session: session.execute(insert(JobRow), rows))
    with database.engine.connect() as connection:
        if database.engine.dialect.name != "sqlite":  # SQLite plans without statistics, as in production
            connection.exec_driver_sql("ANALYZE TABLE jobs, attempts, artifacts, idempotency").all()
    return rows


@contextmanager
def watched(database: Database) -> Iterator[list[tuple[str, Any]]]:
    seen: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if statement.split()[0] in ("SELECT", "UPDATE", "DELETE") and " jobs" in statement:
            seen.append((statement, parameters[0] if many else parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


def plan(database: Database, statement: str, parameters: Any) -> list[str]:
    """Which index the jobs are entered by; `everything` where it is none, or a walk along all of one."""
    with database.engine.connect() as connection:
        if database.engine.dialect.name == "sqlite":
            steps = connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, parameters).all()
            found = [step[-1] for step in steps if step[-1].startswith(("SEARCH jobs", "SCAN jobs"))]
            return [
                step.split("INDEX ")[1].split(" ")[0] if step.startswith("SEARCH") else "everything"
                for step in found
            ]
        steps = connection.exec_driver_sql("EXPLAIN " + statement, parameters).all()
        return [
            "everything" if step.type in ("ALL", "index") else step.key
            for step in steps
            if step.table == "jobs"
        ]


def entered(database: Database, call: Callable[[], Any]) -> set[str]:
    """The indexes through which a function reaches the jobs."""
    with watched(database) as seen:
        call()
    assert seen
    primary = {"PRIMARY", "sqlite_autoindex_jobs_1"}
    keys = {key for statement, parameters in seen for key in plan(database, statement, parameters)}
    return {"id" if key in primary else key for key in keys}


def test_every_function_finds_its_jobs_by_an_index(database: Database, crowd: list[dict[str, Any]]) -> None:
    queued = [one["id"] for one in crowd if one["status"] == "queued" and one["stage"] == "vision"]
    held = next(one["claim_id"] for one in crowd if one["claim_id"])
    won: list[Claim] = []

    def claim(ids: list[str]) -> None:
        won.append(jobs.claim(database, ids, "vision", "worker", lease_s=30, limit_s=60))

    def record() -> None:
        outcomes = [Outcome(job.id, won[-1].id, Event.RELEASE) for job in won[-1].jobs]
        assert jobs.record(database, outcomes, max_attempts=3, redispatch_s=30)

    found = {
        "claim one": entered(database, lambda: claim(queued[:1])),
        "claim 64": entered(database, lambda: claim(queued[1:65])),
        "heartbeat": entered(database, lambda: jobs.heartbeat(database, [held, won[-1].id], 30)),
        "record": entered(database, record),
        "cancel": entered(database, lambda: jobs.cancel(database, queued[100])),
        "expire": entered(database, lambda: jobs.expire(database)),
        "reap": entered(database, lambda: jobs.reap(database, 3)),
        "due": entered(database, lambda: jobs.due(database, 30)),
        "erase": entered(database, lambda: jobs.erase(database, crowd[0]["id"], NOBODY)),
    }
    assert found == {
        "claim one": {"id", "ix_jobs_claim"},
        "claim 64": {"id", "ix_jobs_claim"},
        "heartbeat": {"id", "ix_jobs_claim"},
        "record": {"id"},
        "cancel": {"id"},
        "expire": {"id", "ix_jobs_deadline"},
        "reap": {"id", "ix_jobs_lease"},
        "due": {"id", "ix_jobs_due"},
        "erase": {"id", "uq_jobs_turn"},
    }


def test_a_page_of_the_newest_jobs_is_read_from_the_end_of_the_ids(
    database: Database, crowd: list[dict[str, Any]]
) -> None:
    """Newest first is by id, since ids sort by time; no sort, no table walk beyond the page."""
    cursor = crowd[ENDED]["id"]
    query = select(JobRow.id).where(JobRow.id < cursor).order_by(JobRow.id.desc()).limit(51)
    assert entered(database, lambda: database.read(lambda s: s.scalars(query).all())) == {"id"}


def test_a_position_in_the_queue_is_counted_in_the_queues_index(
    database: Database, crowd: list[dict[str, Any]]
) -> None:
    query = (
        select(JobRow.id)
        .where(
            JobRow.status == "queued",
            JobRow.stage == "vision",
            JobRow.lane == "interactive",
            JobRow.id < crowd[-1]["id"],
        )
        .limit(1000)
    )
    assert entered(database, lambda: database.read(lambda s: s.scalars(query).all())) == {"ix_jobs_queue"}


def test_batches_reach_their_jobs_by_their_own_indexes(database: Database) -> None:
    """Three batches of thousands: what is asked of one does not touch the others."""
    mine = batch(database, 2000)
    for _ in range(2):
        batch(database, 2000)
    if database.engine.dialect.name != "sqlite":
        with database.engine.connect() as connection:
            connection.exec_driver_sql("ANALYZE TABLE jobs, batches").all()
    found = {
        "counts": entered(database, lambda: database.read(lambda s: batches.counts(s, [mine]))),
        "rows": entered(database, lambda: database.read(lambda s: batches.rows(s, mine, after=100))),
        "settle": entered(database, lambda: batches.settle(database, [mine])),
        "fill": entered(database, lambda: window.fill(database, "vision", "skin", 4, 30)),
        "due": entered(database, lambda: jobs.due(database, 30)),
    }
    assert batches.cancel(database, mine)
    found["cancel"] = entered(database, lambda: batches.cancel_jobs(database, mine))
    assert found["counts"] == {"ix_jobs_batch"}
    assert found["rows"] == {"uq_jobs_entry"}
    assert found["settle"] == {"ix_jobs_batch"}
    assert found["due"] <= {"ix_jobs_due", "id"}
    assert "everything" not in found["fill"] | found["cancel"]
