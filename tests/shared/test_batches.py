"""Batches on both databases: every move is conditional, and nothing is counted or doubled that should not be."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError

from shared import batches, jobs
from shared.batches import Counts, NewBatch, NewRejected
from shared.database import Database
from shared.errors import BrokenArchive, IdempotencyConflict, StaleAttempt
from shared.idempotency import Idempotency
from shared.ids import entry_id, new_id
from shared.job_types import NewArtifact, NewJob, Outcome
from shared.tables import BatchRow, JobRow

IMAGE = NewArtifact("image", "image/jpeg", "0" * 64, 1)
Make = Callable[..., BatchRow]


def new_jobs(batch_id: str, entries: Sequence[int], **columns: Any) -> list[NewJob]:
    return [
        NewJob(
            id=entry_id(batch_id, entry),
            **({"pipeline": "skin", "question": "", "lang": "en", "answered": False} | columns),
            stage="vision",
            lane="bulk",
            batch_id=batch_id,
            entry=entry,
            entry_name=f"{entry}.jpg",
            artifacts=(IMAGE,),
        )
        for entry in entries
    ]


def claimed(database: Database, lease_s: float = 30.0, **columns: Any) -> BatchRow:
    batch_id = new_id()
    assert batches.create(database, NewBatch(batch_id, **columns), 30)
    row = batches.claim(database, batch_id, lease_s=lease_s, max_attempts=10)
    assert row is not None
    return row


def row_of(database: Database, batch_id: str) -> BatchRow:
    return database.read(lambda session: session.get_one(BatchRow, batch_id))


def accept(database: Database, row: BatchRow, entries: Sequence[int]) -> None:
    batches.accept(
        database, row.id, row.claim_id or "", new_jobs(row.id, entries), [], max(entries, default=-1) + 1
    )


def move(database: Database, batch_id: str, status: str, *entries: int) -> None:
    of = (JobRow.batch_id == batch_id, JobRow.entry.in_(entries))
    database.write(lambda s: s.execute(update(JobRow).where(*of).values(status=status)))


def read(database: Database, row: BatchRow, count: int) -> None:
    accept(database, row, range(count))
    assert batches.end_reading(database, row.id, row.claim_id or "", None)


def test_a_batch_is_claimed_once_and_again_when_its_lease_has_run_out(database: Database) -> None:
    row = claimed(database, lease_s=0.0)
    again = batches.claim(database, row.id, lease_s=30, max_attempts=10)
    assert again is not None
    assert (again.claim_id != row.claim_id, again.failures) == (True, 1)
    assert batches.claim(database, row.id, lease_s=30, max_attempts=10) is None
    assert not batches.heartbeat(database, row.id, row.claim_id or "", 30)
    assert batches.heartbeat(database, row.id, again.claim_id or "", 30)


def test_who_lost_the_claim_can_write_nothing(database: Database) -> None:
    row = claimed(database, lease_s=0.0)
    assert batches.claim(database, row.id, lease_s=30, max_attempts=10)
    with pytest.raises(StaleAttempt):
        accept(database, row, [0])
    with pytest.raises(StaleAttempt):
        batches.expect(database, row.id, row.claim_id or "", 3)
    assert not batches.end_reading(database, row.id, row.claim_id or "", None)
    assert database.read(lambda s: s.scalar(select(func.count()).select_from(JobRow))) == 0


def test_jobs_and_checkpoint_are_written_together_or_not_at_all(database: Database) -> None:
    row = claimed(database)
    accept(database, row, [0, 1])
    with pytest.raises(IntegrityError):
        accept(database, row, [2, 1])  # entry 1 is there already
    stored = row_of(database, row.id)
    assert (stored.entry, stored.accepted, stored.version) == (2, 2, 2)
    entries = database.read(lambda s: [job.entry for job in batches.rows(s, row.id)])
    assert entries == [0, 1]


def test_an_archive_that_ends_its_worker_each_time_fails_in_the_end(database: Database) -> None:
    row = claimed(database, lease_s=0.0)
    for _ in range(2):
        assert batches.claim(database, row.id, lease_s=0, max_attempts=3)
    assert batches.claim(database, row.id, lease_s=0, max_attempts=3) is None
    stored = row_of(database, row.id)
    assert (stored.status, stored.error_slug) == ("running", "attempts-exhausted")
    batches.settle(database, batches.unsettled(database))
    assert row_of(database, row.id).status == "failed"


def test_a_checkpoint_forgives_what_was_lost_before(database: Database) -> None:
    row = claimed(database, lease_s=0.0)
    again = batches.claim(database, row.id, lease_s=30, max_attempts=3)
    assert again is not None
    accept(database, again, [0])
    assert row_of(database, row.id).failures == 0


def test_a_released_batch_waits_for_the_sweeper_and_is_not_charged(database: Database) -> None:
    row = claimed(database)
    batches.release(database, row.id, row.claim_id or "")
    assert batches.due(database, 30) == [row.id]
    assert batches.due(database, 30) == []
    again = batches.claim(database, row.id, lease_s=30, max_attempts=3)
    assert again is not None
    assert again.failures == 0


def test_a_batch_ends_with_its_last_job_and_not_before(database: Database) -> None:
    row = claimed(database)
    accept(database, row, range(3))
    assert batches.settle(database, [row.id]) == {}
    assert batches.end_reading(database, row.id, row.claim_id or "", None)
    move(database, row.id, "succeeded", 0, 1)
    assert batches.settle(database, [row.id]) == {}
    move(database, row.id, "failed", 2)
    version = row_of(database, row.id).version
    assert batches.settle(database, [row.id]) == {row.id: version + 1}
    stored = row_of(database, row.id)
    assert (stored.status, stored.completed_at is not None) == ("completed", True)
    assert batches.settle(database, [row.id]) == {}
    assert batches.unsettled(database) == []


def test_a_broken_archive_fails_when_what_was_accepted_has_ended(database: Database) -> None:
    row = claimed(database)
    accept(database, row, [0])
    assert batches.end_reading(database, row.id, row.claim_id or "", BrokenArchive("cut"))
    assert row_of(database, row.id).status == "running"
    move(database, row.id, "succeeded", 0)
    assert batches.settle(database, [row.id])
    stored = row_of(database, row.id)
    assert (stored.status, stored.error_slug, stored.error_detail) == ("failed", "broken-archive", "cut")


def test_a_canceled_batch_takes_no_more_jobs_and_ends_those_it_has_in_steps(database: Database) -> None:
    row = claimed(database)
    accept(database, row, range(700))
    assert batches.cancel_jobs(database, row.id) == {}  # not canceled yet
    assert batches.cancel(database, row.id)
    assert not batches.cancel(database, row.id)
    with pytest.raises(StaleAttempt):
        accept(database, row, [700])
    assert row_of(database, row.id).completed_at is None
    assert len(batches.cancel_jobs(database, row.id)) == 500
    assert batches.settle(database, [row.id]) == {}
    assert len(batches.cancel_jobs(database, row.id)) == 200
    assert batches.cancel_jobs(database, row.id) == {}
    assert batches.settle(database, batches.unsettled(database))
    stored = row_of(database, row.id)
    assert (stored.status, stored.completed_at is not None) == ("canceled", True)


def test_counts_tell_never_started_from_between_stages(database: Database) -> None:
    row, other = claimed(database), claimed(database)
    read(database, row, 6)
    read(database, other, 1)
    rejected = [NewRejected(0, "x", "unsafe-name", "no")]
    third = claimed(database)
    batches.accept(database, third.id, third.claim_id or "", [], rejected, 1)
    for status, entry in (("running", 1), ("succeeded", 2), ("failed", 3), ("canceled", 4)):
        move(database, row.id, status, entry)
    between = (JobRow.batch_id == row.id, JobRow.entry == 5)
    database.write(lambda s: s.execute(update(JobRow).where(*between).values(stage="answer")))
    counts = database.read(lambda s: batches.counts(s, [row.id, other.id, third.id]))
    assert (
        counts[row.id].by_status == Counts(queued=1, running=2, succeeded=1, failed=1, canceled=1).by_status
    )
    assert (counts[row.id].total, counts[row.id].ended) == (6, 3)
    assert counts[other.id] == Counts(queued=1)
    assert counts[third.id] == Counts(rejected=1)


def test_pages_come_in_the_archives_order(database: Database) -> None:
    row = claimed(database)
    batches.accept(
        database,
        row.id,
        row.claim_id or "",
        new_jobs(row.id, [3, 0, 2]),
        [NewRejected(entry, f"{entry}", "unsafe-name", "no") for entry in (4, 1)],
        5,
    )
    assert database.read(lambda s: [job.entry for job in batches.rows(s, row.id, limit=2)]) == [0, 2]
    assert database.read(lambda s: [job.entry for job in batches.rows(s, row.id, after=2)]) == [3]
    assert database.read(lambda s: [one.entry for one in batches.rejected(s, row.id)]) == [1, 4]


def test_the_same_key_makes_one_batch_for_a_day(database: Database) -> None:
    key, other = Idempotency("1" * 64, "2" * 64), Idempotency("1" * 64, "3" * 64)
    first = NewBatch(new_id())
    assert batches.create(database, first, 30, key)
    assert not batches.create(database, NewBatch(new_id()), 30, key)
    assert batches.repeated(database, key) == first.id
    with pytest.raises(IdempotencyConflict):
        batches.repeated(database, other)
    database.write(lambda s: s.execute(update(BatchRow).values(created_at=1)))
    assert batches.repeated(database, key) is None
    assert batches.create(database, NewBatch(new_id()), 30, key)


def test_the_same_id_makes_one_batch(database: Database) -> None:
    new = NewBatch(new_id())
    assert batches.create(database, new, 30)
    assert not batches.create(database, new, 30)


def test_the_time_left_follows_from_what_was_done(database: Database) -> None:
    row = claimed(database)
    row.entries, row.created_at = 10, 0
    assert batches.eta_s(row, Counts(queued=10), 5_000_000) is None
    assert batches.eta_s(row, Counts(queued=3, succeeded=2), 5_000_000) == 20.0
    row.completed_at = 1
    assert batches.eta_s(row, Counts(succeeded=10), 5_000_000) is None


def test_the_time_left_follows_from_what_was_done_lately(database: Database) -> None:
    row = claimed(database)
    read(database, row, 100)
    for entry in range(30):
        move(database, row.id, "succeeded", entry)
    hour_ago = (JobRow.batch_id == row.id, JobRow.entry < 20)
    long_ago = update(JobRow).where(*hour_ago).values(due_at=1)
    database.write(lambda s: s.execute(long_ago))
    counts = database.read(lambda s: batches.counts(s, [row.id]))[row.id]
    assert (counts.succeeded, counts.lately) == (30, 10)
    row.entries, row.created_at = 100, 0
    # 70 are left, and 10 a minute are done; since the batch was made it was 30 in an hour.
    assert batches.eta_s(row, counts, 3_600_000_000) == 420.0
    # Younger than a minute: what was done, was done since.
    assert batches.eta_s(row, counts, 20_000_000) == 140.0


def test_ids_of_entries_are_the_same_each_time_and_sort_as_they_stand_in_the_archive() -> None:
    batch_id = new_id()
    ids = [entry_id(batch_id, entry) for entry in (0, 1, 16_383, 16_384, 99_999, 2**26 - 1)]
    assert ids == sorted(ids) == [entry_id(batch_id, n) for n in (0, 1, 16_383, 16_384, 99_999, 2**26 - 1)]
    assert len({one[:13] for one in [batch_id, *ids]}) == 1
    assert {(one[14], one[19] in "89ab") for one in ids} == {("7", True)}
    assert entry_id(new_id(), 0) != ids[0]


def test_a_bulk_job_that_advances_gets_in_line_at_once_and_a_persons_is_given_time(
    database: Database, job_factory: Any
) -> None:
    for lane in ("bulk", "interactive"):
        job = job_factory(lane=lane)
        held = jobs.claim(database, [job.id], "vision", "w", lease_s=30, limit_s=60)
        outcome = Outcome(job.id, held.id, jobs.Event.ADVANCE, stage="answer", lane=lane)
        jobs.record(database, [outcome], max_attempts=3, redispatch_s=30)
        stored = database.read(lambda s, one=job.id: s.get_one(JobRow, one))
        assert (stored.due_at > stored.not_before) == (lane == "interactive")
