"""Who did what to whose job: rows that are only ever added, sealed in blocks of which each holds the hash of the last.

Writers do not wait for each other: they add plain rows, and the sweeper seals what has come. Who changes or removes a
sealed row breaks every block from there on. Who can also make all later blocks anew is found out by a head that
somebody wrote down elsewhere; the log has each.
"""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import structlog
from sqlalchemy import Table, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shared.database import Database, now_us
from shared.ids import new_id
from shared.tables import AuditBlockRow, AuditRow

AUDIT = cast(Table, AuditRow.__table__)
BLOCK = 1000  # rows at most
REMEMBERED = 16_384  # reads of this hour that a process knows to be written down
HOUR_US = 3_600_000_000
NOTHING = "0" * 64  # what comes before the first block

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Actor:
    """Whoever did it: a key's id, or a part of MedQ; and whose data it may touch."""

    name: str
    owner: str


RETENTION = "retention"
NOBODY = Actor("", "")  # that is known: in open mode


@dataclass(frozen=True)
class Verdict:
    """What a look at the whole chain found; `broken` names the first block that is not as it was sealed."""

    blocks: int
    rows: int
    unsealed: int
    head: str
    broken: int | None
    reason: str | None = None


def add(session: Session, actor: Actor, action: str, subjects: Iterable[str]) -> None:
    """Rows of the caller's transaction."""
    rows = [
        {"id": new_id(), "actor": actor.name, "owner": actor.owner, "action": action, "subject": subject}
        for subject in subjects
    ]
    if rows:
        session.connection().execute(insert(AUDIT).values(at=now_us()), rows)


class Reads:
    """Notes who read what, once per actor, subject and hour."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._lock = threading.Lock()
        self._known: OrderedDict[str, None] = OrderedDict()

    def note(self, actor: Actor, subjects: Iterable[str], clock_us: int) -> None:
        """Before anything is shown; what this process noted this hour costs nothing."""
        marks = {self._mark(actor, subject, clock_us // HOUR_US): subject for subject in subjects}
        with self._lock:
            new = {mark: subject for mark, subject in marks.items() if mark not in self._known}
        if not new:
            return
        self._db.write(lambda session: _add_once(session, actor, new))
        with self._lock:
            self._known |= dict.fromkeys(new)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)

    @staticmethod
    def _mark(actor: Actor, subject: str, hour: int) -> str:
        return hashlib.sha256(f"{actor.name} {subject} {hour}".encode()).hexdigest()


def _add_once(session: Session, actor: Actor, marks: dict[str, str]) -> None:
    """Another process may have noted the same read; its row counts."""
    known = set(session.scalars(select(AuditRow.once).where(AuditRow.once.in_(marks))).all())
    for mark in sorted(set(marks) - known):
        row = {"id": new_id(), "actor": actor.name, "owner": actor.owner, "action": "read", "once": mark}
        try:
            with session.begin_nested():
                session.execute(insert(AuditRow).values(**row, subject=marks[mark], at=now_us()))
        except IntegrityError:
            continue


def seal(db: Database) -> int:
    """Put rows that are in no block into the next one; how many. Of two sweepers one seals."""

    def work(session: Session) -> int:
        rows = session.execute(
            select(AUDIT)
            .where(AUDIT.c.block.is_(None))
            .order_by(AUDIT.c.id)
            .limit(BLOCK)
            .with_for_update(skip_locked=True)
        ).all()
        if not rows:
            return 0
        last = session.scalar(select(AuditBlockRow).order_by(AuditBlockRow.number.desc()).limit(1))
        number, before = (last.number + 1, last.sha256) if last else (1, NOTHING)
        sha256 = _digest(before, rows)
        session.execute(
            insert(AuditBlockRow).values(
                number=number, previous=before, sha256=sha256, entries=len(rows), made_at=now_us()
            )
        )
        ids = [row.id for row in rows]
        session.execute(update(AUDIT).where(AUDIT.c.id.in_(ids)).values(block=number))
        log.info("audit_sealed", block=number, rows=len(rows), head=sha256)
        return len(rows)

    try:
        return db.write(work)
    except IntegrityError:
        return 0  # another sweeper made this block


def verify(db: Database) -> Verdict:
    """Compute every block again."""
    blocks = db.read(lambda s: s.scalars(select(AuditBlockRow).order_by(AuditBlockRow.number)).all())
    broken, reason = next(_faults(db, blocks), (None, None))
    sealed, unsealed = db.read(
        lambda s: s.execute(
            select(func.count(AuditRow.block), func.count() - func.count(AuditRow.block))
        ).one()
    )
    if broken is None and sealed != (expected := sum(block.entries for block in blocks)):
        broken, reason = len(blocks), f"{sealed} rows stand in blocks, and {expected} were sealed"
    return Verdict(len(blocks), sealed, unsealed, blocks[-1].sha256 if blocks else NOTHING, broken, reason)


def _faults(db: Database, blocks: Sequence[AuditBlockRow]) -> Iterator[tuple[int, str]]:
    first = AuditBlockRow(number=0, sha256=NOTHING)
    for before, block in pairwise([first, *blocks]):
        if block.number != before.number + 1:
            yield before.number + 1, "the block is missing"
        if block.previous != before.sha256:
            yield block.number, "it does not follow the block before it"
        mine = select(AUDIT).where(AUDIT.c.block == block.number).order_by(AUDIT.c.id)
        rows = db.read(lambda session, mine=mine: session.execute(mine).all())  # type: ignore[misc]
        if len(rows) != block.entries or _digest(block.previous, rows) != block.sha256:
            yield block.number, "its rows were changed, added or removed"


def entries(db: Database, subject: str | None, limit: int) -> Sequence[AuditRow]:
    """The newest rows, or those about one job or batch."""
    statement = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit)
    if subject is not None:
        statement = statement.where(AuditRow.subject == subject)
    return db.read(lambda session: session.scalars(statement).all())


def _digest(before: str, rows: Sequence[Any]) -> str:
    content = [[row.id, row.at, row.actor, row.owner, row.action, row.subject] for row in rows]
    return hashlib.sha256(f"{before}\n{json.dumps(content)}".encode()).hexdigest()
