"""What language models cost: calls and tokens by owner, month and model, counted when a call was made.

A call costs whether its answer is used or not, so it is counted by itself and not with the job's result.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shared.database import Database, now_us
from shared.tables import UsageRow

MODEL_LIMIT = 128  # characters of a model's name


def add(db: Database, owner: str, model: str, *, input_tokens: int, output_tokens: int) -> None:
    """Count one call."""
    name = model[:MODEL_LIMIT]

    def work(session: Session) -> None:
        this = this_month(session)
        counted = session.execute(
            update(UsageRow)
            .where(UsageRow.owner == owner, UsageRow.month == this, UsageRow.model == name)
            .values(
                calls=UsageRow.calls + 1,
                input_tokens=UsageRow.input_tokens + input_tokens,
                output_tokens=UsageRow.output_tokens + output_tokens,
            )
        )
        if not counted.rowcount:  # type: ignore[attr-defined]
            key = {"owner": owner, "month": this, "model": name}
            tokens = {"input_tokens": input_tokens, "output_tokens": output_tokens}
            session.execute(insert(UsageRow).values(calls=1, **key, **tokens))

    try:
        db.write(work)
    except IntegrityError:  # another worker made the month's first call a moment before
        db.write(work)


def of(db: Database, owner: str, month: str | None = None) -> tuple[str, Sequence[UsageRow]]:
    """A month, by default this one, and what it cost, the most used model first."""

    def work(session: Session) -> tuple[str, Sequence[UsageRow]]:
        wanted = month or this_month(session)
        rows = select(UsageRow).where(UsageRow.owner == owner, UsageRow.month == wanted)
        return wanted, session.scalars(rows.order_by(UsageRow.calls.desc(), UsageRow.model)).all()

    return db.read(work)


def spent(db: Database, owner: str) -> int:
    """Tokens of this month, in and out."""

    def work(session: Session) -> int:
        total = func.coalesce(func.sum(UsageRow.input_tokens + UsageRow.output_tokens), 0)
        mine = (UsageRow.owner == owner, UsageRow.month == this_month(session))
        return int(session.scalar(select(total).where(*mine)) or 0)

    return db.read(work)


def this_month(session: Session) -> str:
    """By the database's clock, in UTC, such as 2026-11."""
    now = session.scalar(select(now_us()))
    assert now is not None
    return datetime.fromtimestamp(now / 1e6, UTC).strftime("%Y-%m")
