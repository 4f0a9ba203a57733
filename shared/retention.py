"""Erases what was kept long enough: blobs first, so that a row that is left still names them."""

from sqlalchemy import select

from shared import batches, jobs
from shared.audit import RETENTION, Actor
from shared.database import Database, now_us
from shared.storage import Storage
from shared.tables import BatchRow, JobRow

SECOND = 1_000_000  # microseconds
AT_ONCE = 100


def erase_old(db: Database, storage: Storage, keep_s: float) -> int:
    """One step: up to 100 jobs and batches that ended more than `keep_s` ago; how many.

    Raises: StorageUnavailable; what is erased by then stays so
    """
    cutoff = now_us() - int(keep_s * SECOND)
    old_jobs = (
        select(JobRow.id, JobRow.owner)
        .where(JobRow.erased_at.is_(None), JobRow.completed_at < cutoff)
        .order_by(JobRow.completed_at)
        .limit(AT_ONCE)
    )
    found = db.read(lambda session: session.execute(old_jobs).all())
    for job_id, owner in found:
        storage.erase(job_id)
        jobs.erase(db, job_id, Actor(RETENTION, owner))
    old_batches = (
        select(BatchRow.id, BatchRow.owner)
        .where(BatchRow.erased_at.is_(None), BatchRow.completed_at < cutoff)
        .order_by(BatchRow.completed_at)
        .limit(AT_ONCE)
    )
    ended = db.read(lambda session: session.execute(old_batches).all())
    for batch_id, owner in ended:
        storage.erase(batch_id)
        batches.erase(db, batch_id, Actor(RETENTION, owner))
    return len(found) + len(ended)
