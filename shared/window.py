"""The bulk window: of archives' jobs only a few messages are under way at once, so that people find free threads.

The line itself is in the database: a queued bulk job is in line when `due_at` has passed, and in a message
while it has not. `dispatches` tells that from a pause before a retry.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, distinct, exists, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shared.batch_life import BatchStatus
from shared.database import SECOND, Database, now_us
from shared.jobs import LONGEST_DOUBLING
from shared.lifecycle import Status
from shared.pauses import ALL, paused_pipelines
from shared.queue import LARGEST_MESSAGE, queue_name
from shared.tables import BatchRow, JobRow, WindowRow

BULK = "bulk"
OPEN = (BatchStatus.RECEIVING.value, BatchStatus.RUNNING.value)
# An answer, or an explanation, takes seconds, and a message's jobs are answered one after the other: each has its own.
MESSAGE_SIZES = {"vision": LARGEST_MESSAGE, "answer": 1, "explain": 1}


def fill(db: Database, stage: str, group: str, window: int, redispatch_s: float) -> list[list[str]]:
    """Messages to send now, so that `window` are under way; safe to call at any time, by anybody.

    Owners take turns, and so do the batches of an owner. A message that seems lost after `redispatch_s`,
    doubling, puts its jobs back in line. `group` is a pipeline, or all of them for a stage without groups.
    """
    queue = queue_name(stage, group, BULK)

    def work(session: Session) -> list[list[str]]:
        turns = _lock(session, queue)
        room = window - _under_way(session, stage, group)
        paused = paused_pipelines(session, BULK)
        if room <= 0 or ALL in paused:
            return []
        line = _Line(session, stage, group, turns, paused)
        messages: list[list[str]] = []
        while len(messages) < room and (ids := line.take()):
            line.mark(ids, redispatch_s, len(messages))
            messages.append(ids)
        if messages:
            session.execute(update(WindowRow).where(WindowRow.queue == queue).values(turns=line.turns))
        return messages

    def needed(session: Session) -> bool:
        some = session.scalar(select(exists().where(BatchRow.status.in_(OPEN))))
        return bool(some) and _under_way(session, stage, group) < window

    # Mostly there is nothing to do, and a look takes no lock.
    return db.write(work) if db.read(needed) else []


def put_back(db: Database, ids: Sequence[str]) -> None:
    """Jobs of a message that the broker did not take."""

    def work(session: Session) -> None:
        session.execute(
            update(JobRow)
            .where(JobRow.id.in_(sorted(ids)), JobRow.status == Status.QUEUED.value)
            .values(due_at=now_us())
            .execution_options(synchronize_session=False)
        )

    db.write(work)


def _lock(session: Session, queue: str) -> dict[str, Any]:
    """Whose turn it is, with the queue's row locked: nobody else counts or fills it until the commit."""
    touched = update(WindowRow).where(WindowRow.queue == queue).values(filled_at=now_us())
    if not session.execute(touched).rowcount:  # type: ignore[attr-defined]
        try:
            with session.begin_nested():
                session.execute(insert(WindowRow).values(queue=queue, filled_at=now_us(), turns={}))
        except IntegrityError:  # another process made it a moment ago
            session.execute(touched)
    return dict(session.scalar(select(WindowRow.turns).where(WindowRow.queue == queue)) or {})


def _under_way(session: Session, stage: str, group: str) -> int:
    """Messages in the broker, told apart by when they count as lost, and messages that workers hold."""
    mine = (JobRow.lane == BULK, JobRow.stage == stage, *_of_group(group))
    waiting = select(func.count(distinct(JobRow.due_at))).where(
        *mine, JobRow.status == Status.QUEUED.value, JobRow.due_at > now_us(), JobRow.dispatches > 0
    )
    # Messages of one id share claims; each of them holds a thread all the same.
    holder = JobRow.id if MESSAGE_SIZES[stage] == 1 else distinct(JobRow.claim_id)
    held = select(func.count(holder)).where(*mine, JobRow.status == Status.RUNNING.value)
    return (session.scalar(waiting) or 0) + (session.scalar(held) or 0)


def _of_group(group: str) -> tuple[Any, ...]:
    return () if group == "all" else (JobRow.pipeline == group,)


class _Line:
    """Who is served next."""

    def __init__(
        self, session: Session, stage: str, group: str, turns: dict[str, Any], paused: frozenset[str]
    ) -> None:
        self._session = session
        self._where = (
            JobRow.status == Status.QUEUED.value,
            JobRow.stage == stage,
            JobRow.due_at <= now_us(),
            *_of_group(group),
            # As plain values: with a subquery MariaDB walks the whole table.
            *((JobRow.pipeline.not_in(sorted(paused)),) if paused else ()),
        )
        self._size = MESSAGE_SIZES[stage]
        waiting = exists().where(JobRow.batch_id == BatchRow.id, *self._where)
        query = select(BatchRow.owner, BatchRow.id).where(BatchRow.status.in_(OPEN), waiting)
        self._batches: dict[str, list[str]] = {}
        for owner, batch_id in session.execute(query.order_by(BatchRow.id)):
            self._batches.setdefault(owner, []).append(batch_id)
        self.turns = {owner: last for owner, last in turns.items() if owner in self._batches}

    def take(self) -> list[str]:
        """Ids of one message, of one batch: of the owner who was served longest ago; [] when nobody waits."""
        while self._batches:
            owner = min(self._batches, key=self._turn)
            batch_id = _after(self._batches[owner], self.turns.pop(owner, ""))
            self.turns[owner] = batch_id
            rows = self._session.execute(self._next(batch_id)).all()
            if rows:
                # A job that was lost once goes alone, in case it was its worker's death.
                alone = rows[0].lost > 0
                return [rows[0].id] if alone else [row.id for row in rows if not row.lost]
            self._batches[owner].remove(batch_id)
            if not self._batches[owner]:
                del self._batches[owner]
        return []

    def mark(self, ids: list[str], redispatch_s: float, number: int) -> None:
        """In a message until `due_at`, which is another moment for each message."""
        of_message = JobRow.id.in_(sorted(ids))
        most = self._session.scalar(select(func.max(JobRow.dispatches)).where(of_message)) or 0
        pause = int(redispatch_s * SECOND) << min(most, LONGEST_DOUBLING)
        due_at = (self._session.scalar(select(now_us())) or 0) + pause + number
        self._session.execute(
            update(JobRow)
            .where(of_message, func.nullif(JobRow.status, "") == Status.QUEUED.value)
            .values(due_at=due_at, dispatches=JobRow.dispatches + 1)
            .execution_options(synchronize_session=False)
        )

    def _turn(self, owner: str) -> int:
        """Lower is longer ago; the dictionary keeps the order in which owners were served."""
        return list(self.turns).index(owner) if owner in self.turns else -1

    def _next(self, batch_id: str) -> Select[str, int]:
        return (
            select(JobRow.id, JobRow.lost)
            .where(JobRow.batch_id == batch_id, *self._where)
            .where(or_(JobRow.deadline_at.is_(None), JobRow.deadline_at > now_us()))
            .order_by(JobRow.due_at, JobRow.id)
            .limit(self._size)
        )


def _after(batch_ids: list[str], last: str) -> str:
    """The one behind `last`, round and round."""
    return next((batch_id for batch_id in batch_ids if batch_id > last), batch_ids[0])
