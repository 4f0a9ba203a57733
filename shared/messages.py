"""What is asked again about a job: messages, which are jobs of their own that begin with the answer.

A job that has ended never changes, so a message has its own row, and with it leases, retries, events and cancel.
It keeps nothing of the picture: what was found is read from the job it is about, and goes when that is erased.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.database import Database
from shared.errors import AnswerRejected, MessageRefused
from shared.job_types import NewJob
from shared.lifecycle import TERMINAL, Status
from shared.tables import JobRow

STAGE = "answer"  # where a message begins, and ends


@dataclass(frozen=True)
class Thread:
    """The job that was asked about, and its messages up to one of them, the oldest first."""

    root: JobRow
    earlier: tuple[JobRow, ...]


def of(session: Session, job_id: str) -> Sequence[JobRow]:
    """A job's messages, the oldest first."""
    return session.scalars(select(JobRow).where(JobRow.message_of == job_id).order_by(JobRow.turn)).all()


def before(db: Database, message: JobRow) -> Thread | None:
    """All that was said before a message; None for a job that is none.

    Raises: AnswerRejected when the job was erased, and the message canceled with it
    """
    if message.message_of is None:
        return None

    def work(session: Session) -> Thread:
        root = session.get(JobRow, message.message_of)
        if root is None or root.erased_at is not None:
            raise AnswerRejected("The job that this message is about was erased.")
        earlier = (row for row in of(session, root.id) if (row.turn or 0) < (message.turn or 0))
        return Thread(root, tuple(row for row in earlier if row.erased_at is None))

    return db.read(work)


def following(
    db: Database, root: JobRow, new_id: str, text: str, lang: str, *, external: bool = True, most: int
) -> NewJob:
    """The next message about a job.

    Two that are made at once get the same turn, of which the database takes one.

    Raises: MessageRefused when the job cannot be asked about, or not now
    """
    if root.message_of is not None:
        raise MessageRefused("This is a message itself; send the next one to the job that it is about.")
    if root.status != Status.SUCCEEDED or root.erased_at is not None:
        raise MessageRefused("Only a job that has succeeded and was not erased can be asked about.")
    rows = db.read(lambda session: of(session, root.id))
    if any(row.status not in TERMINAL for row in rows):
        raise MessageRefused("The last message is still being answered.")
    if len(rows) >= most:
        raise MessageRefused(f"This job was asked {most} times, which is the most; submit the picture again.")
    return NewJob(
        id=new_id,
        owner=root.owner,
        pipeline=root.pipeline,
        question=text,
        lang=lang,
        stage=STAGE,
        answered=True,
        external=root.external and external,
        message_of=root.id,
        turn=len(rows) + 1,
    )
