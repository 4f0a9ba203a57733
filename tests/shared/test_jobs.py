"""The life of a job through the functions that move it, on both databases."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from shared import jobs
from shared.database import SECOND, Database, now_us
from shared.errors import IdempotencyConflict, LanguageModelUnavailable, OutOfMemory
from shared.idempotency import IDEMPOTENCY_S, Idempotency, forget_keys, repeated
from shared.ids import new_id
from shared.job_types import NewJob, Outcome
from shared.lifecycle import TERMINAL, TRANSITIONS, Event, Status
from shared.tables import ArtifactRow, AttemptRow, IdempotencyRow, JobRow
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
    perform,
    record,
    row,
)

# ---- The table of lifecycle.py, row by row ----


@pytest.mark.parametrize(("status", "event"), TRANSITIONS)
def test_every_move_of_the_table_is_made(
    database: Database, job_factory, status: Status, event: Event
) -> None:
    job = job_factory()
    claim_id = in_status(database, status, job.id)
    if event is Event.EXPIRE:
        alter(database, job.id, deadline_at=1)
    if event is Event.LOSE:
        lapse(database, job.id)
    before = row(database, job.id)

    assert perform(database, event, job.id, claim_id)

    after = row(database, job.id)
    assert after.status == TRANSITIONS[status, event]
    assert after.version == before.version + 1
    assert (after.claim_id is not None) == (after.status == Status.RUNNING)
    assert (after.completed_at is not None) == (after.status in TERMINAL)
    outcomes = [outcome for _, _, outcome, _ in attempts(database, job.id)]
    assert outcomes == {Event.CLAIM: [None]}.get(event, [event] if status is Status.RUNNING else [])


@pytest.mark.parametrize(
    ("status", "event"),
    [(status, event) for status in Status for event in Event if (status, event) not in TRANSITIONS],
)
def test_every_other_move_leaves_the_row_untouched(
    database: Database, job_factory, status: Status, event: Event
) -> None:
    job = job_factory()
    claim_id = in_status(database, status, job.id)
    if status is not Status.RUNNING:
        lapse(database, job.id)
    if status in TERMINAL:
        alter(database, job.id, deadline_at=1)
    before, tries = columns(database, job.id), attempts(database, job.id)

    assert not perform(database, event, job.id, claim_id)

    assert columns(database, job.id) == before
    assert attempts(database, job.id) == tries


# ---- Create ----


def test_a_new_job_waits_for_its_first_message(database: Database, job_factory) -> None:
    job = job_factory(redispatch_s=30, artifacts=(MASK,), expires_in_s=60)
    stored = row(database, job.id)
    assert (stored.status, stored.stage, stored.version, stored.attempt) == ("queued", "vision", 1, 0)
    assert stored.created_at == stored.not_before == stored.due_at - 30 * SECOND
    assert stored.deadline_at == stored.created_at + 60 * SECOND
    assert (stored.started_at, stored.claim_id, stored.findings) == (None, None, None)
    assert count(database, ArtifactRow) == 1


def keyed(database: Database, content: str) -> tuple[str, bool]:
    new = NewJob(new_id(), "skin", "q", "en", "vision", True)
    return new.id, jobs.create(database, new, 30, Idempotency("k" * 64, content * 64))


def test_sixteen_submits_with_one_key_make_one_job(database: Database) -> None:
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda _: keyed(database, "c"), range(16)))
    (winner,) = [job_id for job_id, first in made if first]
    assert repeated(database, Idempotency("k" * 64, "c" * 64)) == winner
    assert count(database, JobRow) == 1


def test_a_key_with_other_content_is_a_conflict(database: Database) -> None:
    keyed(database, "c")
    with pytest.raises(IdempotencyConflict):
        repeated(database, Idempotency("k" * 64, "d" * 64))


def test_a_key_counts_for_a_day_whether_or_not_it_was_swept(database: Database) -> None:
    keyed(database, "c")
    day_ago = now_us() - IDEMPOTENCY_S * SECOND
    database.write(lambda s: s.execute(update(IdempotencyRow).values(created_at=day_ago)))
    assert repeated(database, Idempotency("k" * 64, "d" * 64)) is None
    again, first = keyed(database, "d")
    assert first
    assert repeated(database, Idempotency("k" * 64, "d" * 64)) == again
    assert forget_keys(database) == 0


def test_old_keys_are_swept(database: Database) -> None:
    keyed(database, "c")
    database.write(lambda s: s.execute(update(IdempotencyRow).values(created_at=1)))
    assert forget_keys(database) == 1
    assert count(database, IdempotencyRow) == 0


def test_an_id_that_exists_is_an_error_where_no_key_explains_it(database: Database, job_factory) -> None:
    job = job_factory()
    with pytest.raises(IntegrityError):
        job_factory(id=job.id)


# ---- Claim ----


def test_a_claim_takes_what_waits_for_its_stage(database: Database, job_factory) -> None:
    mine = [job_factory().id, job_factory().id]
    other = job_factory(stage="answer").id
    late = job_factory().id
    alter(database, late, not_before=2**60)
    expired = job_factory(expires_in_s=-1).id
    won = claim(database, *mine, other, late, expired, "nobody", "é", *mine)
    assert [job.id for job in won.jobs] == sorted(mine)
    assert {job.claim_id for job in won.jobs} == {won.id}
    assert all(job.status == "running" and job.attempt == 1 for job in won.jobs)
    assert [row(database, job_id).status for job_id in (other, late, expired)] == ["queued"] * 3


def test_a_lease_never_outlasts_the_limit(database: Database, job_factory) -> None:
    job = job_factory()
    won = jobs.claim(database, [job.id], "vision", "worker", lease_s=30, limit_s=10)
    lease_until, limit_at = won.jobs[0].lease_until or 0, won.jobs[0].limit_at or 0
    assert 0 <= limit_at - lease_until < 1000  # SQLite reads its clock once for each


def test_nothing_to_claim_is_an_empty_claim(database: Database) -> None:
    assert claim(database).jobs == ()
    assert claim(database, "nobody").jobs == ()


def test_threads_that_claim_the_same_ids_share_them(database: Database, job_factory) -> None:
    ids = [job_factory().id for _ in range(60)]
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda _: claim(database, *ids), range(8)))
    shares = [job.id for one in won for job in one.jobs]
    assert sorted(shares) == sorted(ids)
    assert count(database, AttemptRow) == 60


def test_the_start_is_the_first_claim(database: Database, job_factory) -> None:
    job = job_factory()
    first = claim(database, job.id)
    started = row(database, job.id).started_at
    record(database, Outcome(job.id, first.id, Event.RELEASE))
    claim(database, job.id)
    assert row(database, job.id).started_at == started


# ---- Record ----


def test_results_are_written_with_the_event(database: Database, job_factory) -> None:
    job = job_factory()
    won = claim(database, job.id)
    found = [{"label": "mel", "probability": 0.81}]
    advance = Outcome(
        job.id, won.id, Event.ADVANCE, values={"findings": found}, artifacts=(MASK,), stage="answer"
    )
    assert record(database, advance) == {job.id: 3}
    stored = row(database, job.id)
    assert (stored.status, stored.stage, stored.findings) == ("queued", "answer", found)
    assert stored.grades is None
    assert count(database, ArtifactRow) == 1
    assert attempts(database, job.id) == [(1, "vision", "advance", None)]


def test_a_group_of_outcomes_ends_each_job_in_its_own_way(database: Database, job_factory) -> None:
    ends = [Event.ADVANCE, Event.FINISH, Event.RETRY, Event.FAIL, Event.RELEASE]
    ids = [job_factory().id for _ in ends]
    won = claim(database, *ids)
    error = OutOfMemory("too large")
    outcomes = [
        Outcome(job_id, won.id, end, error=error if end in (Event.RETRY, Event.FAIL) else None)
        for job_id, end in zip(ids, ends, strict=True)
    ]
    stranger = Outcome("nobody", won.id, Event.FINISH)
    assert set(record(database, *outcomes, stranger)) == set(ids)
    stored = [row(database, job_id) for job_id in ids]
    assert [one.status for one in stored] == ["queued", "succeeded", "queued", "failed", "queued"]
    assert [one.failures for one in stored] == [0, 0, 1, 0, 0]
    assert [one.error_slug for one in stored] == [None, None, "out-of-memory", "out-of-memory", None]
    assert [attempts(database, job_id)[0][2] for job_id in ids] == ends


def test_what_was_recorded_is_not_recorded_twice(database: Database, job_factory) -> None:
    job = job_factory()
    won = claim(database, job.id)
    outcome = Outcome(job.id, won.id, Event.FINISH, values={"answer": {"text": "first"}}, artifacts=(MASK,))
    assert record(database, outcome)
    before = columns(database, job.id)
    assert record(database, outcome) == {}
    assert columns(database, job.id) == before


def test_a_zombie_cannot_write_a_job_that_was_claimed_again(database: Database, job_factory) -> None:
    job = job_factory()
    zombie = claim(database, job.id)
    lapse(database, job.id)
    jobs.reap(database, CAP)
    successor = claim(database, job.id)
    before = columns(database, job.id)
    stale = Outcome(job.id, zombie.id, Event.FINISH, values={"answer": {"text": "stale"}}, artifacts=(MASK,))
    assert record(database, stale) == {}
    assert columns(database, job.id) == before
    assert count(database, ArtifactRow) == 0
    assert record(database, Outcome(job.id, successor.id, Event.FINISH)) != {}


@pytest.mark.parametrize("zombie_first", [True, False])
def test_a_zombie_in_the_same_group_neither_writes_nor_hinders_its_successor(
    database: Database, job_factory, zombie_first: bool
) -> None:
    job = job_factory()
    zombie = claim(database, job.id)
    lapse(database, job.id)
    jobs.reap(database, CAP)
    successor = claim(database, job.id)
    group = [
        Outcome(job.id, claim_id, Event.FINISH, values={"answer": {"by": by}}, artifacts=(MASK,))
        for by, claim_id in (("zombie", zombie.id), ("successor", successor.id))
    ]
    assert record(database, *(group if zombie_first else group[::-1])) == {job.id: 5}
    assert row(database, job.id).answer == {"by": "successor"}
    assert [outcome for _, _, outcome, _ in attempts(database, job.id)] == ["lose", "finish"]


def test_a_retry_waits_its_pause(database: Database, job_factory) -> None:
    job = job_factory()
    won = claim(database, job.id)
    record(database, Outcome(job.id, won.id, Event.RETRY, error=OutOfMemory(), pause_s=5))
    stored = row(database, job.id)
    assert stored.not_before == stored.due_at
    assert claim(database, job.id).jobs == ()
    alter(database, job.id, not_before=1)
    assert claim(database, job.id).jobs


def test_retries_past_the_cap_fail_with_their_own_error(database: Database, job_factory) -> None:
    job = job_factory()
    for number in range(CAP):
        won = claim(database, job.id)
        error = LanguageModelUnavailable(f"no answer, {number + 1}")
        record(database, Outcome(job.id, won.id, Event.RETRY, error=error))
    stored = row(database, job.id)
    assert (stored.status, stored.failures) == ("failed", CAP)
    assert (stored.error_slug, stored.error_detail) == ("language-model-unavailable", "no answer, 3")
    assert [outcome for _, _, outcome, _ in attempts(database, job.id)] == ["retry", "retry", "fail"]


def test_a_release_is_not_counted(database: Database, job_factory) -> None:
    job = job_factory()
    for _ in range(CAP + 2):
        won = claim(database, job.id)
        record(database, Outcome(job.id, won.id, Event.RELEASE))
    stored = row(database, job.id)
    assert (stored.status, stored.failures, stored.lost) == ("queued", 0, 0)


def test_the_next_stage_starts_with_a_clean_slate(database: Database, job_factory) -> None:
    job = job_factory()
    won = claim(database, job.id)
    lapse(database, job.id)
    jobs.reap(database, CAP)
    won = claim(database, job.id)
    record(database, Outcome(job.id, won.id, Event.RETRY, error=OutOfMemory()))
    assert row(database, job.id).error_slug == "out-of-memory"
    won = claim(database, job.id)
    record(database, Outcome(job.id, won.id, Event.ADVANCE, stage="answer"))
    stored = row(database, job.id)
    assert (stored.failures, stored.lost, stored.error_slug, stored.error_detail) == (0, 0, None, None)
