"""What goes into shared/jobs.py and comes out of it."""

from dataclasses import dataclass, field
from typing import Any

from shared.errors import StageError
from shared.lifecycle import Event, first_stage
from shared.tables import JobRow


@dataclass(frozen=True)
class NewArtifact:
    name: str
    media_type: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class NewWebhook:
    """Who is told of a job's end, and with `stages` of every stage's end too."""

    url: str
    stages: bool


@dataclass(frozen=True)
class NewJob:
    """What a submit fixes for good."""

    id: str
    pipeline: str
    question: str
    lang: str
    stage: str
    answered: bool
    owner: str = ""
    lane: str = "interactive"
    external: bool = True
    explain: str | None = None  # None: no explanation
    frame: int | None = None  # of a multi-frame picture, from 1; None: the first
    retry_of: str | None = None
    message_of: str | None = None  # the job that this one asks about again
    turn: int | None = None  # its number there, from 1
    age: int | None = None
    sex: str | None = None
    site: str | None = None
    client_metadata: dict[str, Any] | None = None
    filename: str | None = None
    media_type: str | None = None
    sha256: str | None = None
    size_bytes: int | None = None
    width: int | None = None
    height: int | None = None
    artifacts: tuple[NewArtifact, ...] = ()
    expires_in_s: float | None = None
    webhook: NewWebhook | None = None
    batch_id: str | None = None
    entry: int | None = None  # its number in the archive
    entry_name: str | None = None
    custom_id: str | None = None
    true_label: str | None = None


@dataclass(frozen=True)
class Claim:
    """The jobs that a message won; whoever holds `id` may write them until the lease ends."""

    id: str
    stage: str
    jobs: tuple[JobRow, ...]


@dataclass(frozen=True)
class Outcome:
    """How one attempt ended, and what it found."""

    job_id: str
    claim_id: str
    event: Event  # ADVANCE, FINISH, RETRY, FAIL or RELEASE
    values: dict[str, Any] = field(default_factory=dict)  # result columns
    artifacts: tuple[NewArtifact, ...] = ()
    stage: str | None = None  # the next one, for ADVANCE
    lane: str = "interactive"  # of the job, for the dispatch that follows
    group: str = "all"  # likewise
    error: StageError | None = None
    pause_s: float = 0.0  # before a retry, or how long a released job is parked


# What a job keeps when it is run again; the old deadline is not the new one's.
KEPT = (
    "owner", "pipeline", "question", "lang", "answered", "external", "explain", "frame", "age", "sex", "site",
    "client_metadata", "filename", "media_type", "sha256", "size_bytes", "width", "height", "entry_name", "custom_id",
    "true_label",
)  # fmt: skip


def again(row: JobRow, new_id: str, *, lane: str = "interactive") -> NewJob:
    """The same as a new job, without its picture."""
    kept = {name: getattr(row, name) for name in KEPT} | {"question": row.question or ""}
    return NewJob(id=new_id, retry_of=row.id, stage=first_stage(), lane=lane, **kept)
