"""Which jobs a list names: filters, and a cursor that holds while new jobs arrive."""

import base64
import binascii
import re
import time
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, Field
from sqlalchemy import ColumnElement, and_, exists, func, not_, or_, select
from sqlalchemy.orm import Session

from api.auth import owner
from api.lookup import ID
from api.views import EPOCH
from shared.asked import known_pipeline
from shared.catalog import PIPELINES
from shared.ids import id_at
from shared.lifecycle import Status
from shared.schemas import JobStatus, Text
from shared.tables import JobRow, ReviewRow

FILTERS = ("status", "pipeline", "created_after", "created_before", "q", "reviewed")
FIRST_SCAN, SCAN = 200, 2_000  # jobs that are looked at in one go, at first and later
BUDGET_S = 0.3
HOUR_US = 3600 * 10**6
CLOCKS_APART_US = HOUR_US  # at most, of the API and the database
LONGEST_READING_US = 30 * 24 * HOUR_US  # from an archive's first byte to its last job


def an_id(text: str) -> str:
    if not ID.fullmatch(text):
        raise ValueError("is not an id")
    return text


def a_cursor(text: str) -> str:
    """The id of the last job that was seen. Clients treat it as opaque, so its form may change."""
    try:
        return an_id(base64.urlsafe_b64decode(text.encode("ascii")).decode("ascii"))
    except (ValueError, binascii.Error):
        raise ValueError("is not a cursor of this list") from None


def a_time(text: object) -> object:
    """pydantic would take bare numbers for seconds since 1970."""
    if not isinstance(text, str) or not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]", text):
        raise ValueError("must be an RFC 3339 time, such as 2026-11-20T08:00:00Z")
    return text


Moment = Annotated[AwareDatetime, BeforeValidator(a_time)]


class JobFilter(BaseModel):
    status: JobStatus | None = None
    pipeline: (
        Annotated[str, AfterValidator(known_pipeline), Field(json_schema_extra={"enum": list(PIPELINES)})]
        | None
    ) = None
    batch_id: (
        Annotated[str, AfterValidator(an_id), Field(json_schema_extra={"pattern": f"^{ID.pattern}$"})] | None
    ) = None
    created_after: Moment | None = None
    created_before: Moment | None = None
    q: Annotated[Text, Field(max_length=200, description="Words in the question or the file name")] | None = (
        None
    )
    reviewed: bool | None = Field(
        None, description="false: what was found and nobody has reviewed yet; true: what somebody has"
    )
    order: Literal["newest", "oldest"] = Field("newest", description="Which jobs come first")
    limit: int = Field(50, ge=1, le=200)
    cursor: (
        Annotated[str, AfterValidator(a_cursor), Field(json_schema_extra={"format": "job-cursor"})] | None
    ) = None


def select_page(session: Session, wanted: JobFilter) -> tuple[list[JobRow], str | None]:
    """In the order that is wanted; the cursor of the next page, or None on the last.

    What no index finds is looked for among SCAN jobs at a time, and among few at first, since most is found there.
    After BUDGET_S the page ends, with fewer jobs than `limit` or none at all, and its cursor goes on: a search costs
    no more on a large table than on a small one.
    """
    until = time.monotonic() + BUDGET_S
    found: list[JobRow] = []
    scan = min(FIRST_SCAN, SCAN)
    while True:
        edge = _edge(session, wanted, scan)
        found += _rows(session, wanted, edge, wanted.limit + 1 - len(found))
        if len(found) > wanted.limit:
            return found[: wanted.limit], _cursor(found[wanted.limit - 1].id)
        if edge is None:
            return found, None
        if time.monotonic() > until:
            return found, _cursor(edge[0])
        wanted, scan = wanted.model_copy(update={"cursor": edge[0]}), SCAN


def _rows(session: Session, wanted: JobFilter, edge: tuple[str, Any] | None, most: int) -> list[JobRow]:
    conditions = [*_conditions(wanted), *_reach(wanted), *([_up_to(wanted, edge[1])] if edge else [])]
    return list(session.scalars(select(JobRow).where(*conditions).order_by(_order(wanted)).limit(most)))


def _edge(session: Session, wanted: JobFilter, scan: int) -> tuple[str, Any] | None:
    """The last of the next `scan` jobs, whatever they are, and its place; None when there are fewer."""
    if all(getattr(wanted, name) in (None, "") for name in FILTERS):
        return None
    anything = wanted.model_copy(update=dict.fromkeys(FILTERS))
    conditions = (*_conditions(anything), *_reach(wanted))
    places = select(JobRow.id, _place(wanted)).where(*conditions).order_by(_order(wanted))
    row = session.execute(places.offset(scan - 1).limit(1)).first()
    return (row[0], row[1]) if row else None


def _place(wanted: JobFilter) -> Any:
    """Jobs of a batch have ids in the order of their entries, by which an index finds its last ones."""
    return JobRow.entry if wanted.batch_id else JobRow.id


def _order(wanted: JobFilter) -> Any:
    return _place(wanted).desc() if wanted.order == "newest" else _place(wanted).asc()


def _up_to(wanted: JobFilter, last: Any) -> ColumnElement[bool]:
    place = _place(wanted)
    found: ColumnElement[bool] = place >= last if wanted.order == "newest" else place <= last
    return found


def _beyond(wanted: JobFilter, last: Any) -> ColumnElement[bool]:
    place = _place(wanted)
    found: ColumnElement[bool] = place < last if wanted.order == "newest" else place > last
    return found


def _reach(wanted: JobFilter) -> list[ColumnElement[bool]]:
    """Ids begin with the time, so that jobs of another time need not be looked at.

    The id of an archive's entry tells when the archive came, which is some time before the job did.
    """
    if wanted.batch_id:
        return []
    found: list[ColumnElement[bool]] = []
    if wanted.created_after:
        found.append(JobRow.id >= id_at(_microseconds(wanted.created_after) - LONGEST_READING_US))
    if wanted.created_before:
        found.append(JobRow.id <= id_at(_microseconds(wanted.created_before) + CLOCKS_APART_US))
    return found


def _cursor(job_id: str) -> str:
    return base64.urlsafe_b64encode(job_id.encode()).decode()


def _conditions(wanted: JobFilter) -> list[ColumnElement[bool]]:
    # A batch is one owner's: its own index finds its jobs, and the owner's must not be taken instead.
    mine = func.coalesce(JobRow.owner, "") if wanted.batch_id else JobRow.owner
    found: list[ColumnElement[bool]] = [mine == owner()]
    if not wanted.batch_id:
        # Messages stand with the job that they are about. Hidden from the planner: the owner's index is the right one.
        found.append(func.coalesce(JobRow.message_of, "") == "")
    if wanted.cursor and wanted.batch_id:
        last = (
            select(JobRow.entry).where(JobRow.id == wanted.cursor, JobRow.owner == owner()).scalar_subquery()
        )
        found.append(_beyond(wanted, last))
    elif wanted.cursor:
        found.append(_beyond(wanted, wanted.cursor))
    if wanted.status:
        found.append(_has_status(wanted.status))
    if wanted.pipeline:
        found.append(JobRow.pipeline == wanted.pipeline)
    if wanted.batch_id:
        found.append(JobRow.batch_id == wanted.batch_id)
    if wanted.created_after:
        found.append(JobRow.created_at > _microseconds(wanted.created_after))
    if wanted.created_before:
        found.append(JobRow.created_at < _microseconds(wanted.created_before))
    if wanted.q:
        found.append(_mentions(wanted.q))
    if wanted.reviewed is not None:
        found.append(_is_reviewed() if wanted.reviewed else _waits_for_a_review())
    return found


def _has_status(status: str) -> ColumnElement[bool]:
    """As clients see it: a job that waits between stages runs."""
    if status == Status.QUEUED:
        return and_(JobRow.status == status, JobRow.started_at.is_(None))
    if status == Status.RUNNING:
        between = and_(JobRow.status == Status.QUEUED.value, JobRow.started_at.is_not(None))
        return or_(JobRow.status == status, between)
    return JobRow.status == status


def _is_reviewed() -> ColumnElement[bool]:
    return exists().where(ReviewRow.job_id == JobRow.id)


def _waits_for_a_review() -> ColumnElement[bool]:
    """Something was found, and it is still there."""
    columns = (JobRow.findings, JobRow.grades, JobRow.segments)
    return and_(or_(*(column.is_not(None) for column in columns)), not_(_is_reviewed()))


def _mentions(words: str) -> ColumnElement[bool]:
    """Case counts for nothing, as far as the database knows cases."""
    return or_(
        func.lower(JobRow.question).contains(words.lower(), autoescape=True),
        func.lower(JobRow.filename).contains(words.lower(), autoescape=True),
    )


def _microseconds(moment: AwareDatetime) -> int:
    return int((moment - EPOCH).total_seconds() * 1_000_000)
