"""For whoever operates the system: pause pipelines and lanes, and send again what got stuck."""

from datetime import UTC, datetime, timedelta

import structlog
from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel
from sqlalchemy import func, select

from api import problems
from api.auth import known_key
from api.checked import checked
from api.entry import IMAGE, enter
from api.lookup import valid
from api.services import Services, services
from api.submit import sha256_of
from api.views import time_of
from shared import jobs, pauses
from shared.audit import Actor
from shared.catalog import PIPELINES
from shared.errors import FieldProblem, InvalidRequest, NotFound
from shared.idempotency import IDEMPOTENCY_S, Idempotency, repeated
from shared.ids import new_id
from shared.job_types import again
from shared.lifecycle import Status
from shared.operate_schemas import LaneOrAll, Pause, PauseList, PauseRequest, Requeued, RequeueRequest
from shared.tables import JobRow, PauseRow

AT_ONCE = 50  # failed jobs that one request runs again
MOST_AGE = timedelta(
    seconds=IDEMPOTENCY_S
)  # by its key a failed job goes again once, and keys live this long

log = structlog.get_logger(__name__)
api = APIBlueprint(
    "operate", __name__, url_prefix="/v1", abp_tags=[Tag(name="operate")], abp_responses=problems.RESPONSES
)


class PausePath(BaseModel):
    pipeline: str
    lane: LaneOrAll


@api.get("/pauses", responses={"200": PauseList})
@checked
def list_pauses() -> Response:
    """List what is paused, and count the jobs that run"""
    room = services()
    running = select(func.count()).where(JobRow.status == Status.RUNNING.value)
    found = PauseList(
        items=[_shown(row) for row in pauses.every(room.db)],
        running=room.db.read(lambda session: session.scalar(running)) or 0,
    )
    return _json(found)


@api.put("/pauses/<pipeline>/<lane>", responses={"200": Pause})
@checked
def pause(path: PausePath, body: PauseRequest) -> Response:
    """Let the jobs of a pipeline and lane wait; `all` stands for each of them

    What workers have begun, they finish. Jobs are accepted, and wait.
    """
    _check(path.pipeline)
    row = pauses.add(services().db, path.pipeline, path.lane, body.note)
    log.info("paused", pipeline=path.pipeline, lane=path.lane)
    return _json(_shown(row))


@api.delete("/pauses/<pipeline>/<lane>", responses={"204": None})
@checked
def resume(path: PausePath) -> Response:
    """Lift a pause; its jobs go on at once"""
    room = services()
    _check(path.pipeline)
    if not pauses.lift(room.db, path.pipeline, path.lane):
        raise NotFound("There is no such pause.")
    jobs.hurry(room.db, path.pipeline, path.lane)
    log.info("resumed", pipeline=path.pipeline, lane=path.lane)
    return Response(status=204)


@api.post("/requeue", responses={"200": Requeued})
@checked
def requeue(body: RequeueRequest) -> Response:
    """Send waiting jobs again, and run again what failed by a fault of the service

    The sweeper dispatches those that wait within a round. A job that failed is final: a new one with `retry_of` takes
    its place, once, however often this is asked. Jobs of batches are left to `POST /v1/batches/{id}/rerun`.
    """
    room = services()
    _check(body.pipeline)
    waiting = 0 if body.cursor else jobs.hurry(room.db, body.pipeline, body.lane)
    rerun: list[str] = []
    following = None
    if body.failed_since is not None:
        since, after = _since_us(body.failed_since), valid(body.cursor) if body.cursor else ""
        failed = jobs.faulted(room.db, since, body.pipeline, body.lane, after, AT_ONCE)
        rerun = [new for row in failed if (new := _run_again(room, row))]
        following = failed[-1].id if len(failed) == AT_ONCE else None
    log.info("requeued", waiting=waiting, rerun=len(rerun))
    return _json(Requeued(waiting=waiting, rerun=rerun, next=following))


def _run_again(room: Services, row: JobRow) -> str | None:
    """The new job's id; None when it was run again before, or its picture is gone."""
    key = Idempotency(sha256_of(f"requeue {row.id}"), sha256_of(row.id))
    if repeated(room.db, key):
        return None
    try:
        picture = room.storage.get(f"{row.id}/{IMAGE}")
    except NotFound:
        return None
    new, by = again(row, new_id()), known_key()
    entered = enter(room, new, picture, key, by=Actor(by.id, row.owner) if by else None)
    return entered if entered == new.id else None


def _since_us(since: datetime) -> int:
    """Raises: InvalidRequest"""
    if since.tzinfo is None or datetime.now(UTC) - since > MOST_AGE:
        wrong = "must have a time zone, and be at most 24 hours ago"
        raise InvalidRequest(f"failed_since {wrong}.", errors=[FieldProblem(wrong, "/failed_since")])
    return int(since.timestamp() * 1e6)


def _check(pipeline: str) -> None:
    if pipeline != pauses.ALL and pipeline not in PIPELINES:
        raise NotFound("There is no such pipeline.")


def _shown(row: PauseRow) -> Pause:
    return Pause.model_validate(
        {"pipeline": row.pipeline, "lane": row.lane, "note": row.note, "created_at": time_of(row.created_at)}
    )


def _json(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), mimetype="application/json")
