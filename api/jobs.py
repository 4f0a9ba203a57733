"""The jobs resource: submit, look, wait, list, cancel, rerun, erase, and fetch what was stored."""

import re
from typing import Annotated, BinaryIO

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session
from werkzeug.wsgi import wrap_file

from api import problems
from api.auth import actor, owner, touched
from api.checked import checked
from api.entry import IMAGE, enter, require
from api.listing import JobFilter, select_page
from api.lookup import hold, load, row_of, valid, version_of, wait_for_end
from api.services import Services, services
from api.submit import PreferHeader, SubmitForm, SubmitHeaders, preferred_wait_s, take
from api.views import Shown, show
from shared import jobs, messages, retention
from shared.audit import Actor
from shared.errors import JobFinished, NotFound
from shared.ids import new_id
from shared.job_types import again
from shared.schemas import Job, JobList
from shared.tables import ArtifactRow, JobRow

MOST_WAIT_S = 60
RETRY_AFTER_S = 1
# What a browser may show by itself; anything else is only ever downloaded.
SHOWN_TYPES = frozenset({"image/jpeg", "image/png", "image/webp"})
ARTIFACT_TYPES = (*sorted(SHOWN_TYPES), "application/dicom", "application/octet-stream")
NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")

api = APIBlueprint(
    "jobs", __name__, url_prefix="/v1/jobs", abp_tags=[Tag(name="jobs")], abp_responses=problems.RESPONSES
)


class JobPath(BaseModel):
    job_id: str


class ArtifactPath(JobPath):
    name: str


class JobQuery(BaseModel):
    wait: Annotated[float, Field(ge=0, le=MOST_WAIT_S)] = Field(
        0, description="Hold the answer for up to this many seconds, until the job changes or ends"
    )


@api.post("", responses={"202": Job, "200": Job})
@checked
def submit(header: SubmitHeaders, form: SubmitForm) -> Response:
    """Submit one picture and a question"""
    job_id, new = take(form, header.idempotency_key)
    return accepted(services(), job_id, 202 if new else 200, header.prefer)


@api.get("", responses={"200": JobList})
@checked
def list_jobs(query: JobFilter) -> Response:
    """List jobs, the newest first unless the oldest are wanted

    A page of a search may hold fewer jobs than `limit`, or none: `next` goes on, and is null at the end.
    """
    room = services()

    def work(session: Session) -> JobList:
        rows, cursor = select_page(session, query)
        touched(*(row.id for row in rows))
        return JobList(items=[shown.job for shown in show(session, rows, room.pace)], next=cursor)

    return Response(room.db.read(work).model_dump_json(), mimetype="application/json")


@api.get("/<job_id>", responses={"200": Job, "304": None})
@checked
def get_job(path: JobPath, query: JobQuery) -> Response:
    """Look at a job, or wait for it"""
    room = services()
    seen = _seen_version()
    if query.wait:
        hold(room, path.job_id, seen, query.wait)
    if seen is not None and version_of(room, path.job_id)[0] == seen:
        return Response(status=304, headers={"ETag": f'"{seen}"', "Cache-Control": "private, no-cache"})
    return _render(load(room, path.job_id), 200)


@api.post("/<job_id>/cancel", responses={"200": Job})
@checked
def cancel(path: JobPath) -> Response:
    """Stop a job that has not ended"""
    room = services()
    version_of(room, path.job_id)
    if not jobs.cancel(room.db, path.job_id):
        raise JobFinished()
    return _render(_announced(room, path.job_id), 200)


@api.post("/<job_id>/rerun", responses={"202": Job})
@checked
def rerun(path: JobPath, header: PreferHeader) -> Response:
    """Ask the same again of the current model, as a new job"""
    room = services()
    row = row_of(room, path.job_id)
    if row.erased_at is not None:
        raise NotFound("The job was erased: there is no picture to run again.")
    if row.message_of is not None:
        raise NotFound("A message has no picture to run again; send it again instead.")
    require(room, row.pipeline)
    new = again(row, new_id())
    job_id = enter(room, new, room.storage.get(f"{row.id}/{IMAGE}"))
    return accepted(room, job_id, 202, header.prefer)


@api.delete("/<job_id>", responses={"204": None})
@checked
def erase(path: JobPath) -> Response:
    """Erase the picture, what was asked and what was found, messages too; the bare row stays"""
    room = services()
    row = row_of(room, path.job_id)
    jobs.cancel(room.db, row.id)
    room.hints.forget_draft(row.id)
    for message in room.db.read(lambda session: messages.of(session, row.id)):
        room.hints.forget_draft(message.id)
    if row.erased_at is None:
        retention.erase_job(room.db, room.storage, row.id, actor() or Actor("", row.owner))
        _announced(room, row.id)
    else:
        room.storage.erase(row.id)
    return Response(status=204)


@api.get(
    "/<job_id>/artifacts/<name>",
    responses={"200": {"content": {name: {} for name in ARTIFACT_TYPES}}, "304": None},
)
@checked
def get_artifact(path: ArtifactPath) -> Response:
    """Fetch the picture, or something that was made of it"""
    room = services()
    artifact = _artifact(room, path)
    shown = artifact.media_type in SHOWN_TYPES
    extension = artifact.media_type.rpartition("/")[2]
    filename = f"{artifact.job_id}-{artifact.name}.{extension}"
    headers = {
        "ETag": f'"{artifact.sha256}"',
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f'{"inline" if shown else "attachment"}; filename="{filename}"',
    }
    if request.if_none_match.contains_weak(artifact.sha256):
        return Response(status=304, headers=headers)
    blob: BinaryIO = room.storage.open(f"{artifact.job_id}/{artifact.name}")
    response = Response(wrap_file(request.environ, blob), headers=headers, mimetype=artifact.media_type)
    response.content_length = artifact.size_bytes
    return response


def accepted(room: Services, job_id: str, status: int, prefer: str | None) -> Response:
    """The job with `status`, or with 200 when the client preferred to wait and it ended in time."""
    wait_s = preferred_wait_s(prefer, MOST_WAIT_S)
    if wait_s:
        wait_for_end(room, job_id, wait_s)
    shown = load(room, job_id)
    response = _render(shown, 200 if wait_s and shown.ended else status)
    response.headers["Location"] = shown.job.urls.self
    if wait_s:
        response.headers["Preference-Applied"] = f"wait={wait_s:.0f}"
    return response


def _seen_version() -> int | None:
    """The version in If-None-Match; a tag that is not ours matches nothing."""
    match = re.fullmatch(r'(?:W/)?"([0-9]{1,18})"', request.headers.get("If-None-Match", ""))
    return int(match[1]) if match else None


def _artifact(room: Services, path: ArtifactPath) -> ArtifactRow:
    if not NAME.fullmatch(path.name):
        raise NotFound()
    statement = (
        select(ArtifactRow)
        .join(JobRow, JobRow.id == ArtifactRow.job_id)
        .where(
            ArtifactRow.job_id == touched(valid(path.job_id)),
            ArtifactRow.name == path.name,
            JobRow.owner == owner(),
        )
    )
    found = room.db.read(lambda session: session.scalar(statement))
    if found is None:
        raise NotFound()
    return found


def _announced(room: Services, job_id: str) -> Shown:
    """The job after a change made here, of which whoever waits is told."""
    shown = load(room, job_id)
    room.hints.publish({job_id: shown.version})
    return shown


def _render(shown: Shown, status: int) -> Response:
    response = Response(shown.job.model_dump_json(), status, mimetype="application/json")
    response.headers["ETag"] = f'"{shown.version}"'
    response.headers["Cache-Control"] = "private, no-cache"
    if not shown.ended:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response
