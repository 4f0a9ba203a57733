"""The life of a job, in one table: which event moves which status where."""

from enum import StrEnum

from shared.schemas import StageName


class Status(StrEnum):
    QUEUED = "queued"  # waits for a worker, at its first stage or a later one
    RUNNING = "running"  # a claim holds it
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # its last error says why
    CANCELED = "canceled"  # by whoever submitted it
    EXPIRED = "expired"  # its deadline passed first


class Event(StrEnum):
    CLAIM = "claim"  # a worker takes it
    ADVANCE = "advance"  # the stage is done, the next one waits
    FINISH = "finish"  # the last stage is done
    RETRY = "retry"  # the stage failed, and is tried again after a pause
    FAIL = "fail"  # the stage failed for good
    LOSE = "lose"  # the lease ran out: its worker died or hangs
    RELEASE = "release"  # the worker gives it back unharmed; not counted as an attempt
    CANCEL = "cancel"
    EXPIRE = "expire"


TRANSITIONS: dict[tuple[Status, Event], Status] = {
    (Status.QUEUED, Event.CLAIM): Status.RUNNING,
    (Status.QUEUED, Event.CANCEL): Status.CANCELED,
    (Status.QUEUED, Event.EXPIRE): Status.EXPIRED,
    (Status.RUNNING, Event.ADVANCE): Status.QUEUED,
    (Status.RUNNING, Event.FINISH): Status.SUCCEEDED,
    (Status.RUNNING, Event.FAIL): Status.FAILED,
    (Status.RUNNING, Event.RETRY): Status.QUEUED,
    (Status.RUNNING, Event.LOSE): Status.QUEUED,
    (Status.RUNNING, Event.RELEASE): Status.QUEUED,
    (Status.RUNNING, Event.CANCEL): Status.CANCELED,
    (Status.RUNNING, Event.EXPIRE): Status.EXPIRED,
}

TERMINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED, Status.EXPIRED})


def sources(event: Event) -> tuple[Status, ...]:
    """The statuses that an event may find a job in: the WHERE of its conditional UPDATE."""
    return tuple(status for status, known in TRANSITIONS if known is event)


def target(event: Event) -> Status:
    """Where an event leads; every event of the table leads to one status only."""
    return next(status for (_, known), status in TRANSITIONS.items() if known is event)


def first_stage() -> StageName:
    return "vision"


def next_stage(stage: str, *, answered: bool, explained: bool) -> StageName | None:
    """What follows a stage of a job, or None after its last one. Nobody waits for an explanation."""
    following: list[StageName] = ["vision"]
    if answered:
        following.append("answer")
    if explained:
        following.append("explain")
    later = following[following.index(stage) + 1 :] if stage in following else []
    return later[0] if later else None
