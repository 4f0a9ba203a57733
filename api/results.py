"""Results of a batch as one file, in the archive's order, a page at a time: memory does not grow with the batch.

A server ends an answer that fails on its way like one that is complete, so a last line says that it is not.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar, cast

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import problems
from api.services import Services
from api.table import Columns, fields_of, table
from api.views import show
from shared import batches
from shared.errors import ServiceUnavailable
from shared.schemas import Job
from shared.tables import JobRow, RejectedRow

PAGE = 200  # jobs with answers are some kilobytes each
INCOMPLETE = "incomplete"  # the first cell of a row that says so
REJECTED_HEADER = ("entry", "filename", "problem", "detail", "fields")
NEEDED = (
    JobRow.id, JobRow.entry, JobRow.entry_name, JobRow.filename, JobRow.custom_id, JobRow.pipeline, JobRow.status,
    JobRow.started_at, JobRow.true_label, JobRow.findings, JobRow.grades, JobRow.segments, JobRow.warnings,
    JobRow.answer, JobRow.error_slug, JobRow.error_detail, JobRow.question, JobRow.lang, JobRow.age, JobRow.sex,
    JobRow.site, JobRow.model, JobRow.sha256,
)  # fmt: skip

Row = TypeVar("Row")
log = structlog.get_logger(__name__)


def csv_of(room: Services, batch_id: str, old_id: str | None = None, *, bom: bool = False) -> Iterator[bytes]:
    """A row per job; with `old_id` also what that batch found, and the difference."""
    columns = _columns(room, batch_id)
    header = columns.header + (columns.difference_header if old_id else [])
    return table(header, _marked(_job_rows(room, batch_id, old_id, columns), [INCOMPLETE]), bom=bom)


def rejected_csv_of(room: Services, batch_id: str, *, bom: bool = False) -> Iterator[bytes]:
    """A row per entry that became no job."""

    def fetch(after: int, session: Session) -> Sequence[RejectedRow]:
        return batches.rejected(session, batch_id, after, PAGE)

    rows = (
        [row.entry, row.name, row.slug, row.detail, fields_of(row.errors)]
        for page in _pages(room, fetch)
        for row in page
    )
    return table(REJECTED_HEADER, _marked(rows, [INCOMPLETE]), bom=bom)


def jsonl_of(room: Services, batch_id: str) -> Iterator[bytes]:
    """Every job as GET shows it, a line each; a line with a `status` of 503 and no `id` ends a broken answer."""

    def fetch(after: int, session: Session) -> list[Job]:
        rows = batches.rows(session, batch_id, after, PAGE)
        return [shown.job for shown in show(session, rows, room.pace)]

    lines = (b"".join(job.model_dump_json().encode() + b"\n" for job in page) for page in _pages(room, fetch))
    broken = problems.body(ServiceUnavailable, "The results end here, incomplete. Ask again.")
    return _marked(lines, json.dumps(broken.model_dump(exclude_none=True)).encode() + b"\n")


def _pages(
    room: Services, fetch: Callable[[int, Session], Sequence[Row]], after: int = -1
) -> Iterator[Sequence[Row]]:
    """Pages that are fetched from the entry behind the last; no connection is held between them."""
    while page := room.db.read(partial(fetch, after)):
        yield page
        after = cast(Any, page[-1]).entry


def _job_rows(room: Services, batch_id: str, old_id: str | None, columns: Columns) -> Iterator[list[Any]]:
    for page in _pages(room, partial(_fetch, batch_id, None)):
        old = _same(room, old_id, page) if old_id else {}
        for row in page:
            extra = columns.difference(row, old.get((row.entry, row.sha256))) if old_id else []
            yield columns.cells(row) + extra


def _same(room: Services, old_id: str, page: Sequence[Any]) -> dict[tuple[int, str], Any]:
    """Jobs of the old batch with the same bytes at the same place: an archive that changed has no difference."""
    pages = _pages(room, partial(_fetch, old_id, page[-1].entry), page[0].entry - 1)
    return {(row.entry, row.sha256): row for rows in pages for row in rows if row.sha256}


def _fetch(batch_id: str, last: int | None, after: int, session: Session) -> Sequence[Any]:
    statement = select(*NEEDED).where(JobRow.batch_id == batch_id, JobRow.entry > after)
    if last is not None:
        statement = statement.where(JobRow.entry <= last)
    return session.execute(statement.order_by(JobRow.entry).limit(PAGE)).all()


def _columns(room: Services, batch_id: str) -> Columns:
    statement = (
        select(JobRow.pipeline).where(JobRow.batch_id == batch_id).distinct().order_by(JobRow.pipeline)
    )
    return Columns.of(room.db.read(lambda session: session.scalars(statement).all()))


def _marked(rows: Iterator[Row], marker: Row) -> Iterator[Row]:
    try:
        yield from rows
    except Exception:  # the answer has begun: its status cannot say it any more
        log.exception("results_broke_off")
        yield marker
