"""What clinicians say of a job's findings: rows that are added and never changed."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.database import Database, now_us
from shared.ids import new_id
from shared.tables import ReviewRow


def add(
    db: Database, job_id: str, *, owner: str, verdict: str, label: str | None, note: str | None
) -> ReviewRow:
    """Record one word; later ones do not replace it, but the last one counts."""
    review_id = new_id()

    def work(session: Session) -> ReviewRow:
        now = session.scalar(select(now_us()))
        assert now is not None
        row = ReviewRow(
            id=review_id, job_id=job_id, owner=owner, verdict=verdict, label=label, note=note, created_at=now
        )
        session.add(row)
        return row

    return db.write(work)


def of(db: Database, job_id: str) -> list[ReviewRow]:
    """The newest first."""
    statement = select(ReviewRow).where(ReviewRow.job_id == job_id).order_by(ReviewRow.id.desc())
    return db.read(lambda session: list(session.scalars(statement)))
