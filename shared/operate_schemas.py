"""Bodies for whoever operates the system: pauses, and jobs that go again."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from shared.schemas import Body, Request, Text

NOTE_LIMIT = 255
LaneOrAll = Literal["all", "interactive", "bulk"]


class PauseRequest(Request):
    """Why, for the others."""

    note: Annotated[Text, Field(max_length=NOTE_LIMIT)] | None = None


class Pause(Body):
    """Jobs of this pipeline and lane wait; `all` stands for each of them."""

    pipeline: str
    lane: LaneOrAll
    note: str | None
    created_at: datetime


class PauseList(Body):
    """`running` are the jobs that workers hold at this moment; once it is 0, what is paused stands still."""

    items: list[Pause]
    next: str | None = None
    running: int


class RequeueRequest(Request):
    """Which jobs go again: those that wait, and with `failed_since` those that failed by a fault since then."""

    pipeline: str = "all"
    lane: LaneOrAll = "all"
    failed_since: datetime | None = Field(None, description="At most 24 hours ago, with a time zone")
    cursor: str | None = Field(None, description="`next` of the answer before, to go on", max_length=100)


class Requeued(Body):
    """`waiting` jobs are dispatched again; `rerun` are new jobs, each in the place of one that failed."""

    waiting: int
    rerun: list[str]
    next: str | None
