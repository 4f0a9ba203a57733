"""A model of the job's life walks beside the real one, in whatever order hypothesis thinks of."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import func, select, update

from shared import jobs
from shared.audit import NOBODY
from shared.database import connect
from shared.errors import OutOfMemory
from shared.ids import new_id
from shared.job_types import NewJob, Outcome
from shared.lifecycle import TERMINAL, Event, Status
from shared.tables import AttemptRow, JobRow, Row

CAP = 3
ENDS = [Event.ADVANCE, Event.FINISH, Event.RETRY, Event.FAIL, Event.RELEASE]
PICK = st.integers(0, 2)


@dataclass
class Expected:
    """What the model believes of one job."""

    id: str = field(default_factory=new_id)
    status: Status = Status.QUEUED
    stage: str = "vision"
    failures: int = 0
    claim_id: str | None = None
    claims: list[str] = field(default_factory=list)  # all that ever held it
    moves: int = 1  # the version


class Life(RuleBasedStateMachine):
    """Three jobs; claims live on after they were lost, as zombies."""

    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.database = connect(f"sqlite:///{self.folder / 'medq.sqlite3'}", pool_size=1)
        with self.database.engine.begin() as connection:
            for table in reversed(Row.metadata.sorted_tables):
                connection.execute(table.delete())
        self.jobs = [Expected() for _ in range(3)]
        for job in self.jobs:
            jobs.create(self.database, NewJob(job.id, "skin", "q", "en", "vision", True), 30)

    def teardown(self) -> None:
        self.database.close()

    def _move(self, job: Expected, status: Status) -> None:
        job.status = status
        job.claim_id = None
        job.moves += 1

    def _bend(self, job: Expected, **values: int | None) -> None:
        statement = update(JobRow).where(JobRow.id == job.id).values(**values)
        self.database.write(lambda session: session.execute(statement))

    @rule(picks=st.sets(PICK, min_size=1), stage=st.sampled_from(["vision", "answer"]))
    def claim(self, picks: set[int], stage: str) -> None:
        asked = [self.jobs[pick] for pick in picks]
        won = jobs.claim(self.database, [j.id for j in asked], stage, "worker", lease_s=60, limit_s=60)
        expected = [job for job in asked if job.status is Status.QUEUED and job.stage == stage]
        assert {job.id for job in won.jobs} == {job.id for job in expected}
        for job in expected:
            self._move(job, Status.RUNNING)
            job.claim_id = won.id
            job.claims.append(won.id)

    @rule(ends=st.lists(st.tuples(PICK, st.sampled_from(ENDS), st.booleans()), min_size=1, max_size=4))
    def record(self, ends: list[tuple[int, Event, bool]]) -> None:
        outcomes, expected = [], []
        for pick, event, zombie in ends:
            job = self.jobs[pick]
            if not job.claims or any(known.job_id == job.id and not zombie for known in outcomes):
                continue
            claim_id = job.claims[0] if zombie else job.claims[-1]
            if any((known.job_id, known.claim_id) == (job.id, claim_id) for known in outcomes):
                continue
            error = OutOfMemory() if event in (Event.RETRY, Event.FAIL) else None
            stage = "answer" if event is Event.ADVANCE else None
            outcomes.append(Outcome(job.id, claim_id, event, error=error, stage=stage))
            if job.status is Status.RUNNING and job.claim_id == claim_id:
                expected.append((job, event))
        written = jobs.record(self.database, outcomes, max_attempts=CAP, redispatch_s=30)
        assert set(written) == {job.id for job, _ in expected}
        for job, event in expected:
            job.failures += event is Event.RETRY
            if event is Event.RETRY and job.failures >= CAP:
                event = Event.FAIL
            if event is Event.ADVANCE:
                job.stage, job.failures = "answer", 0
            ends_in = {Event.FINISH: Status.SUCCEEDED, Event.FAIL: Status.FAILED}
            self._move(job, ends_in.get(event, Status.QUEUED))

    @rule(pick=PICK)
    def lose(self, pick: int) -> None:
        job = self.jobs[pick]
        if job.status is Status.RUNNING:
            self._bend(job, lease_until=1)
        reaped = jobs.reap(self.database, CAP)
        assert set(reaped) == ({job.id} if job.status is Status.RUNNING else set())
        if reaped:
            job.failures += 1
            self._move(job, Status.FAILED if job.failures >= CAP else Status.QUEUED)

    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        job = self.jobs[pick]
        assert jobs.cancel(self.database, job.id) is (job.status not in TERMINAL)
        if job.status not in TERMINAL:
            self._move(job, Status.CANCELED)

    @rule(pick=PICK)
    def expire(self, pick: int) -> None:
        job = self.jobs[pick]
        self._bend(job, deadline_at=1)
        assert list(jobs.expire(self.database)) == ([job.id] if job.status not in TERMINAL else [])
        if job.status not in TERMINAL:
            self._move(job, Status.EXPIRED)

    @rule(pick=PICK)
    def erase(self, pick: int) -> None:
        job = self.jobs[pick]
        assert jobs.erase(self.database, job.id, NOBODY) is (job.status in TERMINAL)
        job.moves += job.status in TERMINAL

    @rule()
    def heartbeat(self) -> None:
        named = {claim_id for job in self.jobs for claim_id in job.claims}
        held: dict[str, set[str]] = {}
        for job in self.jobs:
            if job.claim_id:
                held.setdefault(job.claim_id, set()).add(job.id)
        still = jobs.heartbeat(self.database, named, 60)
        assert {claim_id: set(ids) for claim_id, ids in still.items()} == held

    @invariant()
    def the_rows_are_what_the_model_believes(self) -> None:
        for job in self.jobs:
            row = self.database.read(lambda session, job=job: session.get_one(JobRow, job.id))
            real = (row.status, row.stage, row.failures, row.claim_id, row.version)
            assert real == (job.status, job.stage, job.failures, job.claim_id, job.moves)
            assert (row.completed_at is not None) == (job.status in TERMINAL)
            assert row.attempt == len(job.claims)
            assert (row.error_slug is not None) or job.status is not Status.FAILED

    @invariant()
    def an_attempt_is_open_while_its_job_runs_and_no_longer(self) -> None:
        query = select(func.count()).where(AttemptRow.ended_at.is_(None))
        running = sum(job.status is Status.RUNNING for job in self.jobs)
        assert self.database.read(lambda session: session.scalar(query)) == running


def test_the_life_of_jobs_follows_the_model(sqlite_template: Path, tmp_path: Path) -> None:
    shutil.copy(sqlite_template, tmp_path / "medq.sqlite3")
    machine = type("LifeHere", (Life,), {"folder": tmp_path})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
