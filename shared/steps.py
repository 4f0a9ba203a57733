"""What took how long within one attempt, for the job's trace: to decode, a pass of a network, a call of a language model.

Whoever wants to know keeps a list meanwhile; nobody else pays more than a look whether there is one.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from shared.errors import ServiceError

MOST = 64  # of one attempt: an explanation takes hundreds of passes


@dataclass(frozen=True)
class Step:
    """Units: nanoseconds since 1970"""

    name: str
    began_ns: int
    ended_ns: int
    attributes: Mapping[str, str | int] = field(default_factory=dict)
    error: str | None = None  # a slug, or an exception's class: never what somebody said


_kept: ContextVar[list[Step] | None] = ContextVar("steps", default=None)


@contextmanager
def kept(steps: list[Step] | None) -> Iterator[None]:
    """What this thread does meanwhile is written there; None: nowhere."""
    token = _kept.set(steps)
    try:
        yield
    finally:
        _kept.reset(token)


def current() -> list[Step] | None:
    """For work that another thread does for this one."""
    return _kept.get()


def note(steps: list[Step], step: Step) -> None:
    if len(steps) < MOST:
        steps.append(step)


@contextmanager
def step(name: str) -> Iterator[dict[str, str | int]]:
    """Do one step; attributes that are only known at its end are put into what it yields."""
    attributes: dict[str, str | int] = {}
    if (steps := _kept.get()) is None:
        yield attributes
        return
    began_ns, failed = time.time_ns(), None
    try:
        yield attributes
    except BaseException as error:
        failed = error.slug if isinstance(error, ServiceError) else type(error).__name__
        raise
    finally:
        note(steps, Step(name, began_ns, time.time_ns(), attributes, failed))
