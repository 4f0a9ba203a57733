"""Retention erases what ended long ago, blobs first, and nothing else."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select, update

from shared import audit, batches, jobs, retention, uploads
from shared.audit import RETENTION, Actor
from shared.batch_life import BatchStatus
from shared.batches import NewBatch, NewRejected
from shared.blob_keys import PARTS
from shared.database import Database, now_us
from shared.errors import StorageUnavailable
from shared.folder_storage import FolderStorage
from shared.ids import new_id
from shared.job_types import NewJob
from shared.tables import BatchRow, JobRow, RejectedRow

DAY_S = 24 * 3600


@pytest.fixture
def storage(tmp_path: Path) -> FolderStorage:
    return FolderStorage(tmp_path / "blobs")


def aged(database: Database, storage: FolderStorage, new: NewJob, days: float) -> str:
    storage.put(f"{new.id}/image", b"picture")
    jobs.cancel(database, new.id)
    then = now_us() - int(days * DAY_S * 1e6)
    database.write(lambda s: s.execute(update(JobRow).where(JobRow.id == new.id).values(completed_at=then)))
    return new.id


def test_old_jobs_are_erased_with_their_blobs_and_young_ones_kept(
    database: Database, storage: FolderStorage, job_factory: Callable[..., NewJob]
) -> None:
    old = aged(database, storage, job_factory(owner="lab"), 31)
    young = aged(database, storage, job_factory(), 29)
    waiting = job_factory().id
    storage.put(f"{waiting}/image", b"picture")
    assert retention.erase_old(database, storage, 30 * DAY_S) == 1
    assert retention.erase_old(database, storage, 30 * DAY_S) == 0
    rows = {row.id: row for row in database.read(lambda s: s.scalars(select(JobRow)).all())}
    assert [rows[one].question is None for one in (old, young, waiting)] == [True, False, False]
    assert [storage.exists(f"{one}/image") for one in (old, young, waiting)] == [False, True, True]
    ((entry,)) = audit.entries(database, old, 10)
    assert (entry.actor, entry.owner, entry.action) == (RETENTION, "lab", "erase")


def blob(storage: FolderStorage, owner: str, age_s: float) -> str:
    """A blob that came so long ago."""
    storage.put(f"{owner}/image", b"picture")
    then = time.time() - age_s
    os.utime(storage._folder(owner), (then, then))
    return owner


def swept(database: Database, storage: FolderStorage) -> int:
    return sum(retention.erase_strays(database, storage, part) for part in range(PARTS))


def test_blobs_that_no_row_names_go_a_day_after_they_came(
    database: Database, storage: FolderStorage, job_factory: Callable[..., NewJob]
) -> None:
    old, young = blob(storage, new_id(), DAY_S + 60), blob(storage, new_id(), DAY_S - 3600)
    job, batch, upload = (blob(storage, one, 30 * DAY_S) for one in (job_factory().id, new_id(), new_id()))
    batches.create(database, NewBatch(batch), 30)
    uploads.create(
        database, upload, owner="", length=1, filename=None, client_metadata=None, keep_s=60, most=9
    )
    assert swept(database, storage) == 1
    kept = [storage.exists(f"{one}/image") for one in (old, young, job, batch, upload)]
    assert kept == [False, True, True, True, True]
    assert swept(database, storage) == 0


def test_what_comes_after_an_erasure_goes_at_once(
    database: Database, storage: FolderStorage, job_factory: Callable[..., NewJob]
) -> None:
    erased, other = job_factory(), job_factory()
    jobs.cancel(database, erased.id)
    retention.erase_job(database, storage, erased.id, Actor("key", ""))
    for one in (erased, other):
        storage.put(f"{one.id}/mask", b"mask")
    assert retention.erase_late(database, storage, [erased.id, other.id, new_id()]) == 1
    storage.put(f"{erased.id}/mask", b"mask")  # by one that died before it could look
    assert swept(database, storage) == 1
    assert [storage.exists(f"{one.id}/mask") for one in (erased, other)] == [False, True]


def test_a_store_that_is_away_leaves_the_row_for_the_next_time(
    database: Database,
    storage: FolderStorage,
    job_factory: Callable[..., NewJob],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = aged(database, storage, job_factory(), 31)

    def away(job_id: str) -> None:
        raise StorageUnavailable()

    with monkeypatch.context() as patched:
        patched.setattr(storage, "erase", away)
        with pytest.raises(StorageUnavailable):
            retention.erase_old(database, storage, 30 * DAY_S)
    assert retention.erase_old(database, storage, 30 * DAY_S) == 1
    assert not storage.exists(f"{old}/image")


def test_an_old_batch_forgets_its_defaults_and_rejected_names(
    database: Database, storage: FolderStorage
) -> None:
    new = NewBatch(id=new_id(), filename="patient.zip", defaults={"question": "Mr. X?"})
    assert batches.create(database, new, 30)
    row = batches.claim(database, new.id, lease_s=30, max_attempts=3)
    assert row
    assert row.claim_id
    batches.accept(database, new.id, row.claim_id, [], [NewRejected(0, "x.jpg", "invalid-request", "no")], 1)
    batches.end_reading(database, new.id, row.claim_id, None)
    batches.settle(database, [new.id])
    then = now_us() - int(31 * DAY_S * 1e6)
    database.write(lambda s: s.execute(update(BatchRow).values(completed_at=then)))
    storage.put(f"{new.id}/archive", b"left")
    assert retention.erase_old(database, storage, 30 * DAY_S) == 1
    found = database.read(lambda s: s.get(BatchRow, new.id))
    assert found
    assert (found.filename, found.defaults, found.status) == (None, {}, BatchStatus.COMPLETED.value)
    assert database.read(lambda s: s.scalars(select(RejectedRow)).all()) == []
    assert not storage.exists(f"{new.id}/archive")
