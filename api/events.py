"""The events of one job as they happen: a stream that holds a thread but no database connection."""

import time
from collections.abc import Iterator
from contextlib import ExitStack

import structlog
from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError

from api import problems
from api.auth import owner
from api.checked import checked
from api.jobs import JobPath
from api.lookup import load, version_of
from api.news import COMPLETED, Event, Seen, drafting, news, piece, writing
from api.services import Services, services
from api.waiting import News, Watch

LOOK_S = 2.0  # a job's place in the queue changes without a hint
LONGEST_S = 600.0  # then the client comes back with its Last-Event-ID
RETRY_MS = 2000  # how long an EventSource waits before it comes back

log = structlog.get_logger(__name__)

api = APIBlueprint(
    "events", __name__, url_prefix="/v1/jobs", abp_tags=[Tag(name="jobs")], abp_responses=problems.RESPONSES
)


class LastEventHeader(BaseModel):
    last_event_id: str | None = Field(
        None,
        alias="Last-Event-ID",
        description="The id of the last event that was seen: only later ones come",
    )


@api.get(
    "/<job_id>/events",
    responses={
        "200": {
            "description": "Server-Sent Events: status, stage, findings, answer.written, answer.delta, answer, completed",
            "content": {"text/event-stream": {}},
        },
        "204": None,
    },
)
@checked
def follow(path: JobPath, header: LastEventHeader) -> Response:
    """Follow a job as it happens; the stream ends with the job"""
    room = services()
    version_of(room, path.job_id)
    seen = Seen.parse(header.last_event_id or "")
    if seen.knows(COMPLETED):
        return Response(status=204)  # by which an EventSource knows not to come back
    with ExitStack() as held:
        held.enter_context(room.streams.held())
        watch = held.enter_context(room.waiters.watch(path.job_id))
        response = Response(
            _stream(room, watch, _Reader(room, path.job_id, seen)), mimetype="text/event-stream"
        )
        response.call_on_close(held.pop_all().close)
    response.headers["X-Accel-Buffering"] = "no"  # nginx would keep the events back
    return response


class _Reader:
    """One client: what it has seen, and what there is to tell it."""

    def __init__(self, room: Services, job_id: str, seen: Seen) -> None:
        self._room, self._job_id, self.seen, self._owner = room, job_id, seen, owner()
        self._attempt = 0  # that writes the answer now
        self.waits = True  # in a queue

    def look(self) -> list[Event]:
        shown = load(self._room, self._job_id, self._owner)
        self._attempt, self.waits = drafting(shown), shown.job.position is not None
        return self._seeing(news(self.seen, shown))

    def read(self) -> list[Event]:
        """What comes before the answer; a broker that does not answer has nothing."""
        if not self._attempt:
            return []
        hints, which = self._room.hints, (self._job_id, self._attempt)
        count = self._seeing(_those(writing(self.seen, self._attempt, hints.written(*which))))
        return count + self._seeing(_those(piece(self.seen, self._attempt, hints.draft(*which))))

    def _seeing(self, events: list[Event]) -> list[Event]:
        self.seen = events[-1].seen if events else self.seen
        return events


def _those(event: Event | None) -> list[Event]:
    return [event] if event else []


def _stream(room: Services, watch: Watch, reader: _Reader) -> Iterator[bytes]:
    yield f"retry: {RETRY_MS}\n\n".encode()
    try:
        for events in _rounds(room, watch, reader):
            yield b"".join(event.encode() for event in events) or b": heartbeat\n\n"
    except SQLAlchemyError as error:
        log.warning("stream_broken", error=type(error).__name__)  # the client comes back


def _rounds(room: Services, watch: Watch, reader: _Reader) -> Iterator[list[Event]]:
    """What there is to tell, whenever there is something; nothing at all after a long silence."""
    heartbeat_s = room.settings.event_heartbeat_s
    spoke = time.monotonic()
    ends = spoke + LONGEST_S
    woken = News(changed=True, drafted=True)
    while not room.waiters.stopping and time.monotonic() < ends:
        events = reader.look() if woken.changed or reader.waits else []
        events += reader.read() if woken.changed or woken.drafted else []
        if events or time.monotonic() - spoke >= heartbeat_s:
            yield events
            spoke = time.monotonic()
        if reader.seen.knows(COMPLETED):
            return
        pause_s = min(heartbeat_s, LOOK_S) if reader.waits else heartbeat_s
        woken = watch.wait_news(reader.seen.version, pause_s)
