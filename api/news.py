"""What a stream tells about a job: the difference between what the client has seen and what is."""

import json
import re
from dataclasses import dataclass, replace
from typing import Any

from api.views import Position, Shown
from shared.lifecycle import TERMINAL

ID = re.compile(r"([0-9]{1,18})\.([a-z]{0,16})\.([fac]{0,3})\.([0-9]{1,9})\.([0-9]{1,9})")
FOUND, ANSWERED, COMPLETED = "f", "a", "c"


@dataclass(frozen=True)
class Seen:
    """What a client knows. It is the id of the event that told it, so no history is kept anywhere."""

    version: int = 0
    stage: str = ""
    told: str = ""  # FOUND, ANSWERED, COMPLETED: what was sent once and for all
    attempt: int = 0  # whose draft
    offset: int = 0  # characters of that draft
    # Not part of the id: they change without the job.
    position: Position | None = None
    written: tuple[int, int] = (0, 0)  # by an attempt, in characters

    @classmethod
    def parse(cls, id: str) -> "Seen":
        """A `Last-Event-ID`; one that is not ours has seen nothing."""
        match = ID.fullmatch(id)
        if not match:
            return cls()
        return cls(int(match[1]), match[2], match[3], int(match[4]), int(match[5]))

    def __str__(self) -> str:
        return f"{self.version}.{self.stage}.{self.told}.{self.attempt}.{self.offset}"

    def knows(self, what: str) -> bool:
        return what in self.told


@dataclass(frozen=True)
class Event:
    """One event, and what its reader knows afterwards."""

    name: str
    data: dict[str, Any]
    seen: Seen

    def encode(self) -> bytes:
        """JSON has no raw line ends, so the data is one line."""
        return f"event: {self.name}\nid: {self.seen}\ndata: {json.dumps(self.data)}\n\n".encode()


def drafting(shown: Shown) -> int:
    """The attempt that writes the answer at this moment, or 0."""
    job = shown.job
    last = job.attempts[-1] if job.attempts else None
    writes = last and last.stage == "answer" and last.ended_at is None and job.status not in TERMINAL
    return last.number if last and writes else 0


def news(seen: Seen, shown: Shown) -> list[Event]:
    """What changed in the job, in the order in which it came about; `completed` is the last there ever is."""
    job = shown.job
    facts = job.model_dump(mode="json")
    found: list[Event] = []

    def tell(name: str, data: dict[str, Any], told: str = "", **now: Any) -> None:
        nonlocal seen
        seen = replace(seen, told=seen.told + told, **now)
        found.append(Event(name, data, seen))

    if (shown.version, job.position) != (seen.version, seen.position):
        where = _part(facts, "id", "status", "stage", "position", "eta_s", "progress")
        tell("status", where, version=shown.version, position=job.position)
    if job.stage and job.stage != seen.stage:
        tell("stage", {"stage": job.stage}, stage=job.stage)
    if not seen.knows(FOUND) and (job.findings or job.grades or job.segments):
        what = _part(facts, "findings", "grades", "segments", "warnings", "model", "artifacts", "input")
        tell("findings", what, FOUND)
    if not seen.knows(ANSWERED) and job.answer:
        tell("answer", _part(facts, "answer", "warnings"), ANSWERED)
    if not seen.knows(COMPLETED) and shown.ended:
        tell("completed", facts, COMPLETED)
    return found


def piece(seen: Seen, attempt: int, draft: str) -> Event | None:
    """What was written since; another attempt begins anew, at offset 0."""
    offset = seen.offset if seen.attempt == attempt else 0
    if len(draft) <= offset:
        return None
    data = {"attempt": attempt, "offset": offset, "text": draft[offset:]}
    return Event("answer.delta", data, replace(seen, attempt=attempt, offset=len(draft)))


def writing(seen: Seen, attempt: int, characters: int) -> Event | None:
    """How much the language model has written, of which nothing may be shown before it is checked."""
    if not characters or seen.written == (attempt, characters):
        return None
    data = {"attempt": attempt, "characters": characters}
    return Event("answer.written", data, replace(seen, written=(attempt, characters)))


def _part(facts: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: facts[name] for name in names}
