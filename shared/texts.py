"""The only module that writes texts which an operator adds; every process that answers reads them from here.

They live in the database, since that is what all processes share, on one machine or on many.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from shared.database import Database, now_us
from shared.errors import NotFound
from shared.ids import new_id
from shared.tables import TextRow
from shared.text_files import NewText

MOST_TEXTS = 5_000


class TooManyTexts(ValueError):
    """No more texts fit; the message says how many there may be."""


@dataclass(frozen=True)
class Added:
    """What became of one file."""

    id: str
    text: NewText
    how: Literal["added", "replaced", "unchanged"]


def add(db: Database, texts: Sequence[NewText]) -> list[Added]:
    """All of them or none. A text of the same title, source and language is replaced by its newer edition.

    Raises: TooManyTexts
    """

    def work(session: Session) -> list[Added]:
        done = [_add(session, text) for text in texts]
        if (session.scalar(select(func.count()).select_from(TextRow)) or 0) > MOST_TEXTS:
            raise TooManyTexts(f"there may be {MOST_TEXTS} texts at most")
        return done

    return db.write(work)


def _add(session: Session, text: NewText) -> Added:
    identity = "\0".join((text.title, text.source, text.lang))
    key = hashlib.sha256(identity.encode()).hexdigest()
    old = session.execute(select(TextRow.id, TextRow.sha256).where(TextRow.key_sha256 == key)).first()
    if old and old.sha256 == text.sha256:
        return Added(old.id, text, "unchanged")
    if old:
        session.execute(delete(TextRow).where(TextRow.id == old.id))
    columns = vars(text) | {"date": text.date.isoformat(), "passages": list(text.passages)}
    text_id = new_id()
    session.execute(insert(TextRow).values(id=text_id, key_sha256=key, added_at=now_us(), **columns))
    return Added(text_id, text, "replaced" if old else "added")


def every(db: Database) -> Sequence[TextRow]:
    """The oldest first."""
    return db.read(lambda session: session.scalars(select(TextRow).order_by(TextRow.id)).all())


def ids(db: Database) -> tuple[str, ...]:
    """What there is, in order: it differs whenever anything was added, replaced or removed."""
    return db.read(lambda session: tuple(session.scalars(select(TextRow.id).order_by(TextRow.id))))


def remove(db: Database, text_id: str) -> None:
    """Answers that quoted it keep their quotes.

    Raises: NotFound
    """

    def work(session: Session) -> bool:
        gone = session.execute(delete(TextRow).where(TextRow.id == text_id))
        return bool(gone.rowcount)  # type: ignore[attr-defined]

    if not db.write(work):
        raise NotFound("There is no such text.")
