"""Rows as clients see them: what is unknown is null, and `running` holds between stages too."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from api import problems
from api.pace import Pace, Speeds, eta_s
from shared import messages
from shared.errors import ServiceError, by_slug
from shared.lifecycle import TERMINAL, Event, Status, first_stage, next_stage
from shared.queue import LANES
from shared.schemas import (
    AttemptInfo,
    InputInfo,
    Job,
    JobMetrics,
    JobUrls,
    Problem,
)
from shared.tables import ArtifactRow, AttemptRow, JobRow

EXACT_POSITIONS = 1000
MORE: Literal["1000+"] = "1000+"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DONE = (Event.ADVANCE.value, Event.FINISH.value)

Position = int | Literal["1000+"]


@dataclass(frozen=True)
class Shown:
    """A job as it is shown, and the version of the row that it shows."""

    version: int
    job: Job

    @property
    def ended(self) -> bool:
        return self.job.status in TERMINAL


def show(session: Session, rows: Sequence[JobRow], pace: Pace) -> list[Shown]:
    """Three statements for any number of jobs, and one per stage and lane in which some of them wait."""
    ids = [row.id for row in rows]
    tried = [row.id for row in rows if row.attempt]
    attempts = _by_job(session, select(AttemptRow).order_by(AttemptRow.number), AttemptRow.job_id, tried)
    artifacts = _by_job(session, select(ArtifactRow), ArtifactRow.job_id, ids)
    places = positions(session, rows)
    unfinished = any(row.status not in TERMINAL for row in rows)
    speeds = pace.speeds(session) if unfinished else Speeds()
    return [
        Shown(row.version, _job(row, attempts[row.id], artifacts[row.id], places.get(row.id), speeds))
        for row in rows
    ]


def positions(session: Session, rows: Iterable[JobRow]) -> dict[str, Position]:
    """Place of each waiting job within its stage, 1 for the next; a person's before an archive's."""
    waiting = [row for row in rows if row.status == Status.QUEUED]
    found: dict[str, Position] = {row.id: MORE for row in waiting}
    for stage in {row.stage for row in waiting}:
        lanes = {row.lane for row in waiting if row.stage == stage}
        last = max(LANES.index(lane) for lane in lanes)
        ahead = 0
        for lane in LANES[: last + 1]:
            ids = session.scalars(
                select(JobRow.id)
                .where(JobRow.status == Status.QUEUED.value, JobRow.stage == stage, JobRow.lane == lane)
                .order_by(JobRow.id)
                .limit(EXACT_POSITIONS - ahead)
            ).all()
            found |= {job_id: ahead + i for i, job_id in enumerate(ids, 1) if job_id in found}
            ahead += len(ids)
    return found


def time_of(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)


def status_of(row: JobRow) -> str:
    """Between stages the row waits again, which is no business of the client's."""
    return Status.RUNNING if row.status == Status.QUEUED and row.started_at is not None else row.status


def stages_of(row: JobRow) -> list[str]:
    """The stages that this job goes through, in order."""
    stages: list[str] = [messages.STAGE if row.message_of else first_stage()]
    while following := next_stage(stages[-1], answered=row.answered, explained=bool(row.explain)):
        stages.append(following)
    return stages


def _job(
    row: JobRow,
    attempts: list[AttemptRow],
    artifacts: list[ArtifactRow],
    position: Position | None,
    speeds: Speeds,
) -> Job:
    url = f"/v1/jobs/{row.id}"
    ended = row.status in TERMINAL
    values: dict[str, Any] = {
        "id": row.id,
        "pipeline": row.pipeline,
        "status": status_of(row),
        "stage": None if ended else row.stage,
        "position": position,
        "eta_s": None if ended else _eta_s(row, attempts, position, speeds),
        "progress": _progress(row),
        "batch_id": row.batch_id,
        "entry": row.entry,
        "entry_name": row.entry_name,
        "custom_id": row.custom_id,
        "true_label": row.true_label,
        "retry_of": row.retry_of,
        "message_of": row.message_of,
        "turn": row.turn,
        "question": row.question,
        "lang": row.lang,
        "age": row.age,
        "sex": row.sex,
        "site": row.site,
        "metadata": row.client_metadata,
        "input": _input(row),
        "findings": row.findings,
        "grades": row.grades,
        "segments": row.segments,
        "warnings": row.warnings or [],
        "model": row.model,
        "artifacts": {artifact.name: f"{url}/artifacts/{artifact.name}" for artifact in artifacts},
        "answer": row.answer,
        "explain": row.explain or "none",
        "error": _error(row, url),
        "attempts": [_attempt(attempt) for attempt in attempts],
        "metrics": _metrics(row, attempts),
        "created_at": time_of(row.created_at),
        "started_at": row.started_at and time_of(row.started_at),
        "completed_at": row.completed_at and time_of(row.completed_at),
        "erased_at": row.erased_at and time_of(row.erased_at),
        "urls": JobUrls(
            self=url,
            events=f"{url}/events",
            cancel=f"{url}/cancel",
            rerun=f"{url}/rerun",
            messages=f"/v1/jobs/{row.message_of or row.id}/messages",
        ),
    }
    return Job(**values)


def _by_job(
    session: Session, statement: "Select[Any]", column: Any, ids: list[str]
) -> defaultdict[str, list[Any]]:
    found: defaultdict[str, list[Any]] = defaultdict(list)
    if ids:
        for row in session.scalars(statement.where(column.in_(ids))):
            found[row.job_id].append(row)
    return found


def _progress(row: JobRow) -> float:
    """Each stage is two steps, waiting and work; an ended job keeps what it had reached."""
    if row.status == Status.SUCCEEDED:
        return 1.0
    stages = stages_of(row)
    steps = 2 * stages.index(row.stage) + (row.status == Status.RUNNING) if row.stage in stages else 0
    return round(steps / (2 * len(stages)), 2)


def _eta_s(
    row: JobRow, attempts: list[AttemptRow], position: Position | None, speeds: Speeds
) -> float | None:
    stages = stages_of(row)
    left = stages[stages.index(row.stage) :] if row.stage in stages else [row.stage]
    if row.status == Status.RUNNING and attempts:
        started = time_of(attempts[-1].started_at)
        return eta_s(speeds, left, None, (datetime.now(UTC) - started).total_seconds())
    return eta_s(speeds, left, EXACT_POSITIONS if position == MORE else position, None)


def _input(row: JobRow) -> InputInfo | None:
    if row.media_type is None or row.sha256 is None:
        return None
    return InputInfo(
        filename=row.filename,
        media_type=row.media_type,
        sha256=row.sha256,
        size_bytes=row.size_bytes or 0,
        width=row.width or 0,
        height=row.height or 0,
        frame=row.frame,
    )


def _attempt(row: AttemptRow) -> AttemptInfo:
    return AttemptInfo.model_validate(
        {
            "stage": row.stage,
            "number": row.number,
            "worker": row.worker,
            "started_at": time_of(row.started_at),
            "ended_at": row.ended_at and time_of(row.ended_at),
            "outcome": row.outcome,
        }
    )


def _metrics(row: JobRow, attempts: list[AttemptRow]) -> JobMetrics:
    took = {
        attempt.stage: _seconds(attempt.started_at, attempt.ended_at)
        for attempt in attempts
        if attempt.outcome in DONE
    }
    return JobMetrics(
        queued_s=_seconds(row.created_at, row.started_at),
        vision_s=took.get("vision"),
        answer_s=took.get("answer"),
        explain_s=took.get("explain"),
        total_s=_seconds(row.created_at, row.completed_at),
    )


def _seconds(start: int, end: int | None) -> float | None:
    return None if end is None else round((end - start) / 1e6, 6)


def _error(row: JobRow, url: str) -> Problem | None:
    """Only of a failed job: one that is tried again still bears the error of its last attempt."""
    if row.status != Status.FAILED:
        return None
    cls = by_slug(row.error_slug or "") or ServiceError
    return problems.body(cls, row.error_detail or problems.describe(cls), instance=url)
