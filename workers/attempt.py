"""One attempt at a stage: claim, run, then advance, retry or fail; the one try/except of a worker."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import structlog

from shared import jobs
from shared.catalog import PIPELINES
from shared.clock import LONGEST_PAUSE_S
from shared.database import Database
from shared.errors import StageError, TransientError, UnexpectedFault
from shared.figures import Figures
from shared.job_types import Claim, NewArtifact, Outcome
from shared.lifecycle import Event, next_stage
from shared.logs import bound
from shared.queue import Dispatcher, Hints
from shared.settings import Settings
from shared.steps import Step, kept
from shared.tables import JobRow
from shared.traces import Traces
from workers.held import Held
from workers.microbatch import Microbatcher
from workers.refill import Refiller

LARGEST_CLAIM = 32  # messages of one id that share a claim
CLAIMS = 3  # of those at once: one computes, one decodes, one is claimed or written

log = structlog.get_logger(__name__)

Steps = dict[str, list[Step]]  # of each job of a claim; empty where nobody wants to know


@dataclass(frozen=True)
class Found:
    """What a stage found for one job: columns of its row, and artifacts already in storage."""

    values: dict[str, Any] = field(default_factory=dict)
    artifacts: tuple[NewArtifact, ...] = ()


class Stage(Protocol):
    """The work of one stage. `begin` starts a job and answers with what waits for its end.

    A message of many ids begins them all before it waits for any, so that decoding overlaps computing.
    Both may raise: StageError decides about retries, anything else is a fault of ours and is retried.
    """

    name: str

    def begin(self, job: JobRow, lost: Callable[[], bool]) -> Callable[[], Found]: ...

    def slow(self, job: JobRow) -> bool:
        """Whether it may take so long that no other job should wait for its end."""


def no_late(ids: list[str]) -> None:
    """For stages that store nothing."""


def pause_s(failures: int, base_s: float) -> float:
    """How long to wait before the next try: doubling, with full jitter above one base."""
    return min(LONGEST_PAUSE_S, base_s * random.uniform(1, 2 ** min(failures, 16)))


def _failed(job: JobRow, claim: Claim, raised: StageError, base_s: float) -> Outcome:
    """What an error makes of a job: parked, tried again after a pause, or failed.

    What a server asks for with Retry-After is never undercut. Parked jobs come back spread over a base, not all at once.
    """
    parks = isinstance(raised, TransientError) and raised.parks
    asked_s = raised.retry_after_s or 0
    pause = asked_s + random.uniform(0, base_s) if parks else max(asked_s, pause_s(job.failures + 1, base_s))
    event = Event.RELEASE if parks else Event.RETRY if raised.retry else Event.FAIL
    return Outcome(job.id, claim.id, event, error=raised, pause_s=pause)


class Attempts:
    """Runs messages for one stage: what it claims it runs and records."""

    def __init__(
        self,
        stage: Stage,
        db: Database,
        dispatcher: Dispatcher,
        hints: Hints,
        settings: Settings,
        refiller: Refiller,
        spare: Callable[[JobRow, StageError], Found] | None = None,
        figures: Figures | None = None,
        traces: Traces | None = None,
        late: Callable[[list[str]], object] = no_late,
    ) -> None:
        """`spare` makes a failure for good the end of a job that succeeded without this stage.

        `late` hears of jobs whose artifacts were stored when somebody else had ended them.
        """
        self._spare, self._late = spare, late
        self._figures, self._traces = figures or Figures(), traces
        self.stage = stage
        self._refiller = refiller
        self._db, self._dispatcher, self._hints, self._settings = db, dispatcher, hints, settings
        self._held = Held(db, stage.name, settings)
        # A message of one id costs a claim, a record and four changes of thread, and with the image more than its
        # decoding: those that wait share one claim, and cost what one message of as many ids does.
        self._singles = Microbatcher[str, int | Claim](
            self._together, largest=LARGEST_CLAIM, name="claims", threads=CLAIMS
        )
        self._records = Microbatcher[Outcome, bool](
            self._record_singles, largest=LARGEST_CLAIM, name="records"
        )

    def message(self, ids: list[str]) -> int:
        """Deal with one message; answers with the number of jobs that were ours to do.

        One with a single id goes with others of its kind, unless it could hold them up.
        """
        if len(ids) > 1:
            return self._deal(self._held.claim(ids))
        done = self._singles.submit(ids[0]).result()
        return done if isinstance(done, int) else self._deal(done, alone=True)

    def _together(self, ids: list[str]) -> list[int | Claim]:
        """Deal with several messages of one id; what is slow is left to the threads of their messages.

        An id that was delivered twice goes to the first of them.
        """
        claim = self._held.claim(ids)
        slow = {job.id for job in claim.jobs if self.stage.slow(job)}
        try:
            self._deal(replace(claim, jobs=tuple(job for job in claim.jobs if job.id not in slow)))
        except BaseException:
            self._held.let_go(claim)  # else the heartbeat would keep for ever what nobody will run
            raise
        won = {job.id: replace(claim, jobs=(job,)) if job.id in slow else 1 for job in claim.jobs}
        return [won.pop(job_id, 0) for job_id in ids]

    def _deal(self, claim: Claim, *, alone: bool = False) -> int:
        """Run and record what was claimed; `alone`: others that end now may share the transaction."""
        if not claim.jobs:
            return 0
        began, began_ns = time.monotonic(), time.time_ns()
        steps: Steps = {job.id: [] for job in claim.jobs} if self._traces else {}
        try:
            outcomes = self._run(claim, steps)
            if alone:
                written = {outcomes[0].job_id} if self._records.submit(outcomes[0]).result() else set()
            else:
                written = set(self._record(outcomes))
            self._count(claim, outcomes, written, time.monotonic() - began)
            self._trace(claim, outcomes, written, began_ns, steps)
        finally:
            self._held.let_go(claim)
            self._refill(claim.jobs)
        return len(claim.jobs)

    def _count(self, claim: Claim, outcomes: list[Outcome], written: set[str], took_s: float) -> None:
        """Jobs of one claim share its time. What another worker recorded is his to count."""
        for job, outcome in zip(claim.jobs, outcomes, strict=True):
            if job.id not in written:
                continue
            self._figures.stage_seconds.labels(self.stage.name, outcome.event.value).observe(took_s)
            if outcome.event is Event.FINISH:
                whole_s = time.time() - job.created_at / 1e6  # two clocks, a little apart
                self._figures.job_seconds.labels(job.lane).observe(max(0.0, whole_s))

    def _trace(
        self, claim: Claim, outcomes: list[Outcome], written: set[str], began_ns: int, steps: Steps
    ) -> None:
        if self._traces is None:
            return
        for job, outcome in zip(claim.jobs, outcomes, strict=True):
            if job.id in written:
                self._traces.attempted(job, self.stage.name, outcome, began_ns, steps[job.id])

    def _run(self, claim: Claim, steps: Steps) -> list[Outcome]:
        started = [(job, self._kept(steps, self._begin, job, claim)) for job in claim.jobs]
        return [
            begun if isinstance(begun, Outcome) else self._kept(steps, self._end, job, claim, begun)
            for job, begun in started
        ]

    def _kept(self, steps: Steps, act: Callable[..., Any], job: JobRow, claim: Claim, *arguments: Any) -> Any:
        if not steps:
            return self._guard(job, claim, act, job, claim, *arguments)
        with kept(steps[job.id]):
            return self._guard(job, claim, act, job, claim, *arguments)

    def _begin(self, job: JobRow, claim: Claim) -> Callable[[], Found]:
        return self.stage.begin(job, lambda: self._held.lost(claim, job.id))

    def _end(self, job: JobRow, claim: Claim, wait: Callable[[], Found]) -> Outcome:
        found = wait()
        following = next_stage(self.stage.name, answered=job.answered, explained=bool(job.explain))
        return Outcome(
            job.id,
            claim.id,
            Event.ADVANCE if following else Event.FINISH,
            found.values,
            found.artifacts,
            stage=following,
            lane=job.lane,
            group=PIPELINES[job.pipeline].group,
        )

    def _guard(self, job: JobRow, claim: Claim, step: Callable[..., Any], *arguments: Any) -> Any:
        """The one try/except: what a step raises decides how the attempt ends."""
        try:
            return step(*arguments)
        except StageError as error:
            raised = error
        except Exception:
            with bound(job_id=job.id, attempt=job.attempt):
                log.exception("unexpected_fault", stage=self.stage.name)
            raised = UnexpectedFault()
        with bound(job_id=job.id, attempt=job.attempt):
            log.warning("attempt_failed", stage=self.stage.name, error=raised.slug, detail=raised.detail)
        if self._spare and (not raised.retry or job.failures + 1 >= self._settings.max_attempts):
            return Outcome(job.id, claim.id, Event.FINISH, self._spare(job, raised).values)
        return _failed(job, claim, raised, self._settings.retry_base_s)

    def _record_singles(self, outcomes: list[Outcome]) -> list[bool]:
        written = self._record(outcomes)
        return [outcome.job_id in written for outcome in outcomes]

    def _record(self, outcomes: Sequence[Outcome]) -> dict[str, int]:
        """Write, commit, then tell: first the next stage's workers, then whoever waits."""
        written = jobs.record(
            self._db,
            outcomes,
            max_attempts=self._settings.max_attempts,
            redispatch_s=self._settings.redispatch_s,
        )
        stale = [outcome for outcome in outcomes if outcome.job_id not in written]
        for outcome in stale:
            log.info("stale_attempt", job_id=outcome.job_id, stage=self.stage.name)
        if kept := [outcome.job_id for outcome in stale if outcome.artifacts]:
            self._late(kept)
        self._dispatch_next([outcome for outcome in outcomes if outcome.job_id in written])
        self._hints.publish(written)
        return written

    def _dispatch_next(self, outcomes: Sequence[Outcome]) -> None:
        """A person's jobs go one by one, so that no answer waits for another; an archive's get in line."""
        for outcome in outcomes:
            if outcome.event is not Event.ADVANCE or outcome.stage is None:
                continue
            if outcome.lane == "interactive":
                self._dispatcher.dispatch([outcome.job_id], outcome.stage, outcome.group, outcome.lane)
            else:
                self._refiller.ask(outcome.stage, outcome.group)

    def _refill(self, ours: Sequence[JobRow]) -> None:
        """A bulk message is over: the next one may go out, and its batch may have ended with it."""
        bulk = [job for job in ours if job.lane == "bulk"]
        for pipeline in {job.pipeline for job in bulk}:
            self._refiller.ask(self.stage.name, pipeline)
        self._refiller.ended({job.batch_id for job in bulk if job.batch_id})

    def drain(self) -> bool:
        """Wait up to `drain_s` for the claims of this process, then give the rest back unharmed.

        True when something was given back: its threads still run, and must not be waited for.
        """
        unfinished = self._held.left_after(self._settings.drain_s)
        if unfinished:
            log.warning("released", stage=self.stage.name, jobs=len(unfinished))
            self._record([Outcome(job, claim, Event.RELEASE) for claim, job in unfinished])
        return bool(unfinished)

    def close(self) -> None:
        """Stop the helpers; the pool's threads must have ended before."""
        self._held.close()
        self._singles.close()
        self._records.close()
