"""The batches resource: archives in, counts, what was rejected, and results in one file."""

import base64
import re
import time
from typing import Annotated, Any

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import AfterValidator, BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import problems, results
from api.auth import owner
from api.batch_entry import again, enter
from api.batch_form import BatchForm
from api.batch_metrics import measure
from api.batch_views import ShownBatch, rejected_entry, show_batches
from api.checked import checked
from api.listing import a_cursor, an_id
from api.lookup import ID, batch_row, own_batch
from api.services import Services, services
from api.submit import RepeatHeader
from api.zipped import zip_of
from shared import batches
from shared.batch_schemas import Batch, BatchList, BatchMetrics, RejectedList, Rerun
from shared.errors import BatchFinished, NotFound
from shared.tables import BatchRow

MOST_WAIT_S = 60
LOOK_SHARE = 20  # a batch whose count takes long is counted in a twentieth of the time
LOOK_S = 1.0  # jobs end without a hint for their batch, so whoever waits counts them this often
RETRY_AFTER_S = 2
CANCEL_S = 2.0  # how long a cancel may end jobs itself; the sweeper ends the rest

api = APIBlueprint(
    "batches", __name__, url_prefix="/v1/batches", abp_tags=[Tag(name="batches")],
    abp_responses=problems.RESPONSES,
)  # fmt: skip


def a_place(text: str) -> str:
    """The number of the last entry that was seen. Clients treat it as opaque."""
    try:
        if re.fullmatch("[0-9]{1,9}", base64.urlsafe_b64decode(text.encode("ascii")).decode("ascii")):
            return text
    except ValueError:
        pass
    raise ValueError("is not a cursor of this list")


class BatchPath(BaseModel):
    batch_id: str


class BatchQuery(BaseModel):
    wait: Annotated[float, Field(ge=0, le=MOST_WAIT_S)] = Field(
        0,
        description="Hold the answer for up to this many seconds, until the counts change or the batch ends",
    )


class ListQuery(BaseModel):
    limit: int = Field(50, ge=1, le=200)
    cursor: (
        Annotated[str, AfterValidator(a_cursor), Field(json_schema_extra={"format": "job-cursor"})] | None
    ) = None


class RejectedQuery(BaseModel):
    limit: int = Field(50, ge=1, le=200)
    cursor: (
        Annotated[str, AfterValidator(a_place), Field(json_schema_extra={"format": "entry-cursor"})] | None
    ) = None


class TableQuery(BaseModel):
    bom: bool = Field(False, description="Begin with a byte order mark, by which Excel knows UTF-8")
    against: (
        Annotated[str, AfterValidator(an_id), Field(json_schema_extra={"pattern": f"^{ID.pattern}$"})] | None
    ) = Field(
        None, description="Another batch of the same archive, whose findings stand beside with the difference"
    )


class ZipQuery(TableQuery):
    images: bool = Field(False, description="With the pictures, not only with what was made of them")


@api.post("", responses={"202": Batch, "200": Batch})
@checked
def submit(header: RepeatHeader, form: BatchForm) -> Response:
    """Submit an archive of pictures"""
    room = services()
    batch_id, is_new = enter(room, form, header.idempotency_key)
    return _located(_load(room, batch_id), 202 if is_new else 200)


@api.get("", responses={"200": BatchList})
@checked
def list_batches(query: ListQuery) -> Response:
    """List batches, the newest first"""

    def work(session: Session) -> BatchList:
        mine = select(BatchRow).where(BatchRow.owner == owner())
        statement = mine.order_by(BatchRow.id.desc()).limit(query.limit + 1)
        if query.cursor:
            statement = statement.where(BatchRow.id < query.cursor)
        rows = list(session.scalars(statement))
        page = rows[: query.limit]
        cursor = _encoded(page[-1].id) if len(rows) > query.limit else None
        return BatchList(items=[shown.batch for shown in show_batches(session, page)], next=cursor)

    return _json(services().db.read(work))


@api.get("/<batch_id>", responses={"200": Batch, "304": None})
@checked
def get_batch(path: BatchPath, query: BatchQuery) -> Response:
    """Look at a batch, or wait for it"""
    room = services()
    shown = _load(room, path.batch_id)
    if query.wait:
        shown = _hold(room, shown, query.wait)
    if request.if_none_match.contains_weak(shown.tag):
        return Response(status=304, headers={"ETag": f'"{shown.tag}"', "Cache-Control": "private, no-cache"})
    return _render(shown, 200)


@api.post("/<batch_id>/cancel", responses={"200": Batch})
@checked
def cancel(path: BatchPath) -> Response:
    """Stop a batch: what has not ended becomes canceled"""
    room = services()
    row = batch_row(room, path.batch_id)
    if not batches.cancel(room.db, row.id):
        raise BatchFinished()
    deadline = time.monotonic() + CANCEL_S
    while (ended := batches.cancel_jobs(room.db, row.id)) and time.monotonic() < deadline:
        room.hints.publish(ended)
    room.hints.publish(batches.settle(room.db, [row.id]))
    room.storage.erase(row.id)  # the archive; the jobs' pictures are their own
    return _render(_load(room, row.id), 200)


@api.post("/<batch_id>/rerun", responses={"202": Batch})
@checked
def rerun(path: BatchPath, body: Rerun) -> Response:
    """Ask the same again of the current model, as a new batch: only what failed, or everything"""
    room = services()
    row = batch_row(room, path.batch_id)
    return _located(_load(room, again(room, row, body.only)), 202)


@api.get("/<batch_id>/rejected", responses={"200": RejectedList})
@checked
def list_rejected(path: BatchPath, query: RejectedQuery) -> Response:
    """List the entries that became no job, each with its problem"""
    room = services()
    batch_id = batch_row(room, path.batch_id).id
    after = int(base64.urlsafe_b64decode(query.cursor)) if query.cursor else -1
    rows = room.db.read(lambda session: batches.rejected(session, batch_id, after, query.limit + 1))
    page = rows[: query.limit]
    cursor = _encoded(str(page[-1].entry)) if len(rows) > query.limit else None
    return _json(RejectedList(items=[rejected_entry(row) for row in page], next=cursor))


@api.get("/<batch_id>/metrics", responses={"200": BatchMetrics})
@checked
def get_metrics(path: BatchPath) -> Response:
    """Compare the first findings with the labels that the manifest named"""
    room = services()
    batch_id = batch_row(room, path.batch_id).id
    return _json(room.db.read(lambda session: measure(session, batch_id)))


@api.get("/<batch_id>/results.csv", responses={"200": {"content": {"text/csv": {}}}})
@checked
def results_csv(path: BatchPath, query: TableQuery) -> Response:
    """Fetch what is known of every job so far as a table, in the archive's order"""
    room, row, old = _sources(path, query)
    return _file(row.id, "csv", "text/csv", results.csv_of(room, row.id, old, bom=query.bom))


@api.get("/<batch_id>/results.jsonl", responses={"200": {"content": {"application/jsonl": {}}}})
@checked
def results_jsonl(path: BatchPath) -> Response:
    """Fetch every job so far, one JSON object per line, in the archive's order"""
    room = services()
    row = batch_row(room, path.batch_id)
    return _file(row.id, "jsonl", "application/jsonl", results.jsonl_of(room, row.id))


@api.get("/<batch_id>/results.zip", responses={"200": {"content": {"application/zip": {}}}})
@checked
def results_zip(path: BatchPath, query: ZipQuery) -> Response:
    """Fetch results.csv, rejected.csv and what was made of the pictures"""
    room, row, old = _sources(path, query)
    return _file(
        row.id, "zip", "application/zip", zip_of(room, row.id, old, bom=query.bom, images=query.images)
    )


def _sources(path: BatchPath, query: TableQuery) -> tuple[Services, BatchRow, str | None]:
    """Both batches must be there before the answer begins."""
    room = services()
    old = batch_row(room, query.against).id if query.against else None
    return room, batch_row(room, path.batch_id), old


def _load(room: Services, batch_id: str) -> ShownBatch:
    statement = own_batch(batch_id)

    def work(session: Session) -> ShownBatch:
        row = session.scalar(statement)
        if row is None:
            raise NotFound()
        return show_batches(session, [row])[0]

    return room.db.read(work)


def _hold(room: Services, shown: ShownBatch, wait_s: float) -> ShownBatch:
    """The batch when it is not what the client has seen, when it has ended, or when time is up.

    Raises: ServiceUnavailable when too many clients wait already
    """
    deadline = time.monotonic() + wait_s
    seen = request.if_none_match
    first, took = shown.tag, 0.0
    with room.waiters.watch(shown.batch.id) as watch:
        while not shown.ended and (seen.contains_weak(shown.tag) if seen else shown.tag == first):
            left = deadline - time.monotonic()
            if left <= 0 or room.waiters.stopping:
                break
            watch.wait(0, min(max(LOOK_S, LOOK_SHARE * took), left))
            began = time.monotonic()
            shown = _load(room, shown.batch.id)
            took = time.monotonic() - began
    return shown


def _located(shown: ShownBatch, status: int) -> Response:
    response = _render(shown, status)
    response.headers["Location"] = shown.batch.urls.self
    return response


def _render(shown: ShownBatch, status: int) -> Response:
    response = _json(shown.batch, status)
    response.headers["ETag"] = f'"{shown.tag}"'
    response.headers["Cache-Control"] = "private, no-cache"
    if not shown.ended:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def _file(batch_id: str, suffix: str, media_type: str, content: Any) -> Response:
    """The name is ours: an archive's own could be anything."""
    response = Response(content, mimetype=media_type)
    if suffix != "zip":
        response.headers["Content-Type"] = f"{media_type}; charset=utf-8"
    response.headers["Content-Disposition"] = f'attachment; filename="{batch_id}.{suffix}"'
    return services().transfers.held_by(response)


def _json(body: BaseModel, status: int = 200) -> Response:
    return Response(body.model_dump_json(), status, mimetype="application/json")


def _encoded(place: str) -> str:
    return base64.urlsafe_b64encode(place.encode()).decode()
