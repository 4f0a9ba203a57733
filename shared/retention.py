"""Erases what was kept long enough: blobs first, so that a row that is left still names them.

A writer that was slow or died may leave blobs behind that no row names: those of strays go, too.
"""

from collections.abc import Iterable, Iterator, Sequence

from sqlalchemy import literal, select

from shared import batches, jobs
from shared.audit import RETENTION, Actor
from shared.database import SECOND, Database, now_us
from shared.storage import Storage
from shared.tables import BatchRow, JobRow, UploadRow

DAY_S = 24 * 3600.0  # longer than any writer is between its blobs and their row
AT_ONCE = 100


def erase_job(db: Database, storage: Storage, job_id: str, by: Actor) -> None:
    """An ended job's blobs and what its row says. Raises: StorageUnavailable; then it can be repeated

    Twice: what a worker writes between the first time and the row's change goes with the second, and
    whoever writes later finds the row erased (`erase_late`).
    """
    storage.erase(job_id)
    jobs.erase(db, job_id, by)
    storage.erase(job_id)


def erase_late(db: Database, storage: Storage, ids: Iterable[str]) -> int:
    """What a worker wrote that then found its jobs to be somebody else's; only the erased ones' goes.

    Raises: StorageUnavailable
    """
    late = select(JobRow.id).where(JobRow.id.in_(list(ids)), JobRow.erased_at.is_not(None))
    erased = db.read(lambda session: session.scalars(late).all())
    for job_id in erased:
        storage.erase(job_id)
    return len(erased)


def erase_strays(db: Database, storage: Storage, part: int) -> int:
    """Blobs in a part of the store whose job was erased, and those older than a day that no row names.

    Their writer was late or died. Raises: StorageUnavailable
    """
    ages = storage.ages(part)
    strays = 0
    for ids in _chunks(sorted(ages), AT_ONCE):
        known = _known(db, ids)
        for one in ids:
            if known.get(one, ages[one] > DAY_S):
                storage.erase(one)
                strays += 1
    return strays


def _known(db: Database, ids: Sequence[str]) -> dict[str, bool]:
    """Of those that have a row: whether it was erased."""
    queries = (
        select(JobRow.id, JobRow.erased_at.is_not(None)).where(JobRow.id.in_(ids)),
        select(BatchRow.id, BatchRow.erased_at.is_not(None)).where(BatchRow.id.in_(ids)),
        select(UploadRow.id, literal(False)).where(UploadRow.id.in_(ids)),
    )
    return db.read(
        lambda session: {row: gone for query in queries for row, gone in session.execute(query).all()}
    )


def _chunks(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (ids[start : start + size] for start in range(0, len(ids), size))


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
        erase_job(db, storage, job_id, Actor(RETENTION, owner))
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
