"""Archives that arrive in pieces: who may write one now, and when it is forgotten.

How many bytes are there is the blob's own size, which outlives every crash; no row repeats it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, insert, or_, select, update
from sqlalchemy.orm import Session

from shared.database import SECOND, Database, now_us
from shared.errors import NotFound, StorageUnavailable, TooManyRequests, UploadLocked
from shared.ids import new_id
from shared.storage import Storage
from shared.tables import BatchRow, UploadRow

LOCK_S = 15.0  # without a renewal the lock is free: whoever held it is dead, or its connection is
AT_ONCE = 100  # rows that one sweep forgets


class Lock:
    """The right to write one upload. Renew it between two chunks; once lost it never comes back."""

    def __init__(self, db: Database, upload_id: str) -> None:
        self._db = db
        self.upload_id = upload_id
        self._token = new_id()

    def take(self) -> bool:
        free = or_(UploadRow.token.is_(None), UploadRow.locked_until < now_us())
        return self._update(free, token=self._token, locked_until=_after(LOCK_S))

    def renew(self, keep_s: float) -> bool:
        """False when somebody else holds it by now, or the upload is gone."""
        return self._update(
            UploadRow.token == self._token, locked_until=_after(LOCK_S), expires_at=_after(keep_s)
        )

    def release(self) -> None:
        self._update(UploadRow.token == self._token, token=None, locked_until=None)

    def forget(self) -> None:
        """Delete the row; what becomes of the bytes is the caller's business."""
        self._db.write(
            lambda session: session.execute(
                delete(UploadRow).where(UploadRow.id == self.upload_id, UploadRow.token == self._token)
            )
        )

    def _update(self, condition: ColumnElement[bool], **values: Any) -> bool:
        statement = update(UploadRow).where(UploadRow.id == self.upload_id, condition).values(**values)
        return bool(self._db.write(lambda session: session.execute(statement).rowcount))  # type: ignore[attr-defined]


def create(
    db: Database,
    upload_id: str,
    *,
    owner: str,
    length: int,
    filename: str | None,
    client_metadata: str | None,
    keep_s: float,
    most: int,
) -> None:
    """Note an upload of `length` bytes that is to come; it is kept for `keep_s` after its last byte.

    Raises: TooManyRequests when `most` others of this owner are under way
    """

    def work(session: Session) -> None:
        known = session.scalar(select(func.count()).select_from(UploadRow).where(UploadRow.owner == owner))
        if known is not None and known >= most:
            raise TooManyRequests("Too many uploads are under way.", retry_after_s=60)
        session.execute(
            insert(UploadRow).values(
                id=upload_id,
                owner=owner,
                length=length,
                filename=filename,
                client_metadata=client_metadata,
                created_at=now_us(),
                expires_at=_after(keep_s),
            )
        )

    db.write(work)


def find(db: Database, upload_id: str, owner: str) -> UploadRow:
    """Raises: NotFound, also for one that is due to be forgotten, and for another owner's"""
    statement = select(UploadRow).where(
        UploadRow.id == upload_id, UploadRow.owner == owner, UploadRow.expires_at > now_us()
    )
    row = db.read(lambda session: session.scalar(statement))
    if row is None:
        raise NotFound("There is no such upload, or it was forgotten.")
    return row


@contextmanager
def locked(db: Database, upload_id: str) -> Iterator[Lock]:
    """Hold the right to write an upload.

    Raises: UploadLocked while somebody else does
    """
    lock = Lock(db, upload_id)
    if not lock.take():
        raise UploadLocked(retry_after_s=1)
    try:
        yield lock
    finally:
        lock.release()


def expire(db: Database, storage: Storage) -> int:
    """Forget what was left unfinished or unused, bytes first: a row that outlives them is found again."""
    held = and_(UploadRow.token.is_not(None), UploadRow.locked_until >= now_us())
    statement = select(UploadRow.id).where(UploadRow.expires_at <= now_us(), ~held).limit(AT_ONCE)
    forgotten = 0
    for upload_id in db.read(lambda session: session.scalars(statement).all()):
        lock = Lock(db, upload_id)
        if not lock.take():
            continue
        try:
            if not _has_batch(db, upload_id):
                storage.erase(upload_id)
        except StorageUnavailable:
            lock.release()
            continue
        lock.forget()
        forgotten += 1
    return forgotten


def _has_batch(db: Database, upload_id: str) -> bool:
    """A batch has its upload's id; then the bytes are the batch's."""
    statement = select(BatchRow.id).where(BatchRow.id == upload_id)
    return db.read(lambda session: session.scalar(statement)) is not None


def _after(seconds: float) -> ColumnElement[int]:
    return now_us() + int(seconds * SECOND)
