"""Whether this process lives, whether it can accept jobs, and what it counts."""

from collections.abc import Callable

import structlog
from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from api import problems
from api.checked import checked
from api.services import Services, services
from shared import pauses
from shared.catalog import PIPELINES
from shared.errors import ServiceUnavailable, StorageUnavailable
from shared.queue import LANES, queue_name

log = structlog.get_logger(__name__)
api = APIBlueprint("health", __name__, abp_tags=[Tag(name="health")], abp_responses=problems.RESPONSES)


class Lack(BaseModel):
    """Something that jobs wait for; they are accepted meanwhile."""

    name: str
    detail: str


class Health(BaseModel):
    status: str


class Readiness(Health):
    """`paused` is what somebody has paused, such as `skin/bulk`; its jobs wait until he resumes it."""

    degraded: list[Lack]
    paused: list[str]


@api.get("/healthz", responses={"200": Health})
@checked
def healthz() -> Response:
    """The process answers"""
    return _json(Health(status="ok"))


@api.get("/readyz", responses={"200": Readiness})
@checked
def readyz() -> Response:
    """Jobs can be accepted; `degraded` lists what they would wait for"""
    room = services()
    missing = [name for name, check in _needed(room).items() if not _works(name, check)]
    if missing:
        raise ServiceUnavailable(f"Not available: {', '.join(missing)}.", retry_after_s=5)
    lacks = _lacks(room)
    paused = [f"{row.pipeline}/{row.lane}" for row in pauses.every(room.db)]
    return _json(Readiness(status="degraded" if lacks else "ready", degraded=lacks, paused=paused))


@api.get("/metrics", responses={"200": {"content": {"text/plain": {"schema": {"type": "string"}}}}})
@checked
def metrics() -> Response:
    """Counts for Prometheus"""
    return Response(services().metrics.text(), content_type=CONTENT_TYPE_LATEST)


def _needed(room: Services) -> dict[str, Callable[[], object]]:
    return {
        "database": lambda: room.db.read(lambda session: session.execute(text("SELECT 1"))),
        "storage": room.storage.check,
    }


def _works(name: str, check: Callable[[], object]) -> bool:
    try:
        check()
    except (SQLAlchemyError, StorageUnavailable) as error:
        log.warning("not_ready", part=name, error=type(error).__name__)
        return False
    return True


def _lacks(room: Services) -> list[Lack]:
    served = room.presence.queues() if room.hints.ping() else None
    if served is None:
        return [Lack(name="broker", detail="The broker does not answer; the sweeper delivers jobs later.")]
    groups = [p.group for p in PIPELINES.values() if room.availability.standing(p).available]
    stages = {f"vision of {group}": queue_name("vision", group, LANES[0]) for group in groups}
    stages["answer"] = queue_name("answer", "all", LANES[0])
    stages["archive"] = queue_name("archive", "all", "bulk")
    return [
        Lack(name=name, detail=f"No worker takes jobs from {queue}.")
        for name, queue in stages.items()
        if queue not in served
    ]


def _json(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), mimetype="application/json")
