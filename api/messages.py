"""The messages of a job: what is asked again about the same picture, each answered with the thread before it."""

import json

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from sqlalchemy.orm import Session

from api import problems
from api.auth import actor, owner, touched
from api.checked import checked
from api.jobs import JobPath, accepted
from api.lookup import own_job, row_of
from api.services import Services, services
from api.submit import SubmitHeaders, of_owner, sha256_of
from api.views import show
from shared import jobs, messages
from shared.catalog import PIPELINES
from shared.errors import MessageRefused, NotFound
from shared.idempotency import Idempotency, repeated
from shared.ids import new_id
from shared.job_types import NewJob
from shared.language import detect
from shared.schemas import Job, JobList, MessageRequest

api = APIBlueprint(
    "messages", __name__, url_prefix="/v1/jobs", abp_tags=[Tag(name="jobs")], abp_responses=problems.RESPONSES
)


@api.post("/<job_id>/messages", responses={"202": Job, "200": Job})
@checked
def send(path: JobPath, header: SubmitHeaders, body: MessageRequest) -> Response:
    """Ask again about the same job

    The message is a job itself, that begins with the answer: look at it, wait for it, follow its events and
    cancel it as any other. The job must have succeeded, and its last message must have ended.
    """
    room = services()
    root = row_of(room, path.job_id)
    key = _repeat_key(header.idempotency_key, path.job_id, body)
    message_id = repeated(room.db, key) if key else None
    if message_id is not None:
        return accepted(room, message_id, 200, header.prefer)
    lang, most = body.lang or detect(body.text), room.settings.max_messages
    new = messages.following(room.db, root, new_id(), body.text, lang, external=body.external, most=most)
    message_id = _enter(room, new, key)
    return accepted(room, message_id, 202 if message_id == new.id else 200, header.prefer)


@api.get("/<job_id>/messages", responses={"200": JobList})
@checked
def list_messages(path: JobPath) -> Response:
    """List the messages of a job, the oldest first"""
    room = services()
    statement = own_job(path.job_id)

    def work(session: Session) -> JobList:
        root = session.scalar(statement)
        if root is None:
            raise NotFound()
        rows = messages.of(session, root.id)
        touched(*(row.id for row in rows))
        return JobList(items=[one.job for one in show(session, rows, room.pace)], next=None)

    return Response(room.db.read(work).model_dump_json(), mimetype="application/json")


def _repeat_key(key: str | None, job_id: str, body: MessageRequest) -> Idempotency | None:
    if key is None:
        return None
    content = body.model_dump() | {"message_of": job_id}
    return Idempotency(sha256_of(of_owner(owner(), key)), sha256_of(json.dumps(content, sort_keys=True)))


def _enter(room: Services, new: NewJob, key: Idempotency | None) -> str:
    """Store and dispatch a message; its id, or that of the one which its key made first.

    Raises: MessageRefused when another message was faster, TooManyRequests, IdempotencyConflict, NotFound
    """
    room.pressure.admit_job()
    if not jobs.create(room.db, new, room.settings.redispatch_s, key, actor()):
        first = repeated(room.db, key) if key else None
        if first is None:
            raise MessageRefused("Another message was faster, and is still being answered.")
        return first
    room.dispatcher.dispatch([new.id], new.stage, PIPELINES[new.pipeline].group, new.lane)
    return new.id
