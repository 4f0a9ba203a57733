"""Idempotency-Key: the same request sent twice within 24 hours makes one job."""

from dataclasses import dataclass

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from shared.database import SECOND, Database, now_us
from shared.errors import IdempotencyConflict
from shared.tables import IdempotencyRow

IDEMPOTENCY_S = 24 * 3600


@dataclass(frozen=True)
class Idempotency:
    """Hashes of the client's key and of everything that the request holds."""

    key_sha256: str
    content_sha256: str


def keep_key(session: Session, idempotency: Idempotency, job_id: str, now: int) -> None:
    """Remember which job a key made.

    One that the sweeper has not forgotten yet, though its 24 hours are over, may be used again.

    Raises: IntegrityError if another request with the same key was first
    """
    session.execute(
        delete(IdempotencyRow).where(
            IdempotencyRow.key_sha256 == idempotency.key_sha256,
            IdempotencyRow.created_at <= now - IDEMPOTENCY_S * SECOND,
        )
    )
    session.execute(insert(IdempotencyRow).values(job_id=job_id, created_at=now, **vars(idempotency)))


def repeated(db: Database, idempotency: Idempotency) -> str | None:
    """The job that this key made within 24 hours, if any.

    Raises: IdempotencyConflict if it was made by a request with other content
    """

    def work(session: Session) -> IdempotencyRow | None:
        return session.scalar(
            select(IdempotencyRow).where(
                IdempotencyRow.key_sha256 == idempotency.key_sha256,
                IdempotencyRow.created_at > now_us() - IDEMPOTENCY_S * SECOND,
            )
        )

    row = db.read(work)
    if row and row.content_sha256 != idempotency.content_sha256:
        raise IdempotencyConflict()
    return row.job_id if row else None


def forget_keys(db: Database) -> int:
    """Drop idempotency keys older than 24 hours."""

    def work(session: Session) -> int:
        gone = session.execute(
            delete(IdempotencyRow).where(IdempotencyRow.created_at < now_us() - IDEMPOTENCY_S * SECOND)
        )
        return int(gone.rowcount)  # type: ignore[attr-defined]

    return db.write(work)
