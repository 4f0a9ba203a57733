"""Sixteen workers, two sweepers and a murderer at once: no job is lost, none is ended twice."""

import random
import threading
import time
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import event, func, select, update

from shared import jobs
from shared.database import Database, is_deadlock
from shared.job_types import NewArtifact, Outcome
from shared.lifecycle import Event, Status, next_stage
from shared.tables import ArtifactRow, AttemptRow, JobRow

JOBS, WORKERS, LONGEST_S = 300, 16, 240
MASK = NewArtifact("mask", "image/png", "1" * 64, 1)


class Storm:
    """Counts what every thread did, and stops them all when one fails."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.stop = threading.Event()
        self.counts: Counter[str] = Counter()
        self.ended: Counter[tuple[str, str]] = Counter()  # (job, stage) to how often it was ended for good
        self.claims: set[str] = set()
        self.errors: list[BaseException] = []
        self.lock = threading.Lock()

    def waiting(self, stage: str) -> list[str]:
        query = select(JobRow.id).where(JobRow.status == "queued", JobRow.stage == stage).limit(100)
        return list(self.database.read(lambda session: session.scalars(query).all()))

    def work(self, rng: random.Random) -> None:
        stage = rng.choice(["vision", "answer"])
        waiting = self.waiting(stage)
        ids = rng.sample(waiting, min(len(waiting), rng.choice([1, 1, 8, 32])))
        won = jobs.claim(self.database, ids, stage, "worker", lease_s=30, limit_s=60)
        with self.lock:
            self.claims.add(won.id)
        time.sleep(
            0.15 if rng.random() < 0.1 else rng.random() * 0.01
        )  # some are slow enough to be taken for dead
        outcomes = [self.outcome(rng, won.id, job) for job in won.jobs]
        written = jobs.record(self.database, outcomes, max_attempts=1000, redispatch_s=30)
        with self.lock:
            self.claims.discard(won.id)
            self.counts.update(
                claimed=len(won.jobs), recorded=len(written), stale=len(outcomes) - len(written)
            )
            for outcome in outcomes:
                if outcome.job_id in written and outcome.event in (Event.ADVANCE, Event.FINISH):
                    self.ended[outcome.job_id, stage] += 1

    def outcome(self, rng: random.Random, claim_id: str, job: JobRow) -> Outcome:
        fate = rng.random()
        if fate < 0.1:
            return Outcome(job.id, claim_id, Event.RELEASE if fate < 0.05 else Event.RETRY)
        if following := next_stage(job.stage, answered=job.answered, explained=False):
            return Outcome(job.id, claim_id, Event.ADVANCE, {"findings": []}, (MASK,), stage=following)
        return Outcome(job.id, claim_id, Event.FINISH, {"answer": {"text": "a"}})

    def beat(self, rng: random.Random) -> None:
        with self.lock:
            held = list(self.claims)
        jobs.heartbeat(self.database, held, 30)
        time.sleep(0.01)

    def sweep(self, rng: random.Random) -> None:
        lost = jobs.reap(self.database, 1000)
        jobs.due(self.database, 30)
        jobs.expire(self.database)
        with self.lock:
            self.counts["lost"] += len(lost)
        time.sleep(0.01)

    def murder(self, rng: random.Random) -> None:
        """Take the lease from a few running jobs, as if their workers had died in silence."""
        query = select(JobRow.id).where(JobRow.status == "running")
        running = list(self.database.read(lambda session: session.scalars(query).all()))
        victims = rng.sample(running, min(len(running), 3))
        over = {"lease_until": 1, "limit_at": 1}  # the limit too, since heartbeats go on
        taken = update(JobRow).where(JobRow.id.in_(victims), JobRow.status == "running").values(over)
        self.database.write(lambda session: session.execute(taken))
        time.sleep(0.02)

    def forever(self, step: Any, seed: int) -> None:
        rng = random.Random(seed)
        try:
            while not self.stop.is_set():
                step(rng)
        except BaseException as error:
            self.errors.append(error)
            self.stop.set()


def test_sixteen_workers_lose_and_double_nothing(
    database: Database, job_factory, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(JOBS):
        job_factory(redispatch_s=0)
    storm = Storm(database)

    @event.listens_for(database.engine, "handle_error")
    def count_deadlocks(context: Any) -> None:
        if is_deadlock(context.sqlalchemy_exception):
            storm.counts["deadlocks"] += 1

    steps = [storm.work] * WORKERS + [storm.beat, storm.sweep, storm.sweep, storm.murder]
    threads = [threading.Thread(target=storm.forever, args=(step, n)) for n, step in enumerate(steps)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    done = select(func.count()).where(JobRow.status == Status.SUCCEEDED.value)
    while not storm.stop.is_set() and time.monotonic() - start < LONGEST_S:
        if database.read(lambda session: session.scalar(done)) == JOBS:
            break
        time.sleep(0.05)
    storm.stop.set()
    for thread in threads:
        thread.join()
    with capsys.disabled():
        print(f"\n{JOBS} jobs, {WORKERS} workers, {time.monotonic() - start:.1f} s: {dict(storm.counts)}")

    assert storm.errors == []
    assert storm.counts["lost"] > 0
    assert storm.counts["claimed"] == storm.counts["recorded"] + storm.counts["lost"]
    assert database.read(lambda session: session.scalar(done)) == JOBS
    assert len(storm.ended) == 2 * JOBS
    assert set(storm.ended.values()) == {1}
    attempts = select(AttemptRow.outcome, func.count()).group_by(AttemptRow.outcome)
    told = {row[0]: row[1] for row in database.read(lambda session: session.execute(attempts).all())}
    assert told[Event.ADVANCE] == told[Event.FINISH] == JOBS
    assert None not in told  # every attempt was closed
    assert sum(told.values()) == storm.counts["claimed"]
    assert (
        database.read(lambda session: session.scalar(select(func.count()).select_from(ArtifactRow))) == JOBS
    )
