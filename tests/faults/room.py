"""The running system and everything around it, for one run of the fault suite."""

import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from sqlalchemy import select

from deploy.run import System
from shared.catalog import PIPELINES
from shared.database import Database
from shared.lifecycle import TERMINAL, Status
from shared.queue import Dispatcher
from shared.settings import Settings
from shared.tables import BatchRow, JobRow
from tests import processes
from tests.faults.evidence import Evidence, JobsLost, Report
from tests.faults.language_model import LanguageModel
from tests.faults.people import PATIENCE_S, People, Work
from tests.rabbit import Rabbit
from tests.servers import MariaDB, Redis, Server

ROLES = ("api", "vision", "answer", "archive", "sweeper")


def grown(count: Callable[[], int], by: int = 1) -> Callable[[], bool]:
    """Tells whether something has happened so often since this call."""
    before = count()
    return lambda: count() - before >= by


@dataclass
class Room:
    system: System
    settings: Settings
    db: Database
    mariadb: MariaDB
    redis: Redis
    language_model: LanguageModel
    sabotage: Path
    long: bool  # at least 200 jobs a fault, and 20 kills of each process
    people: People
    rabbit: Rabbit | None = None
    reports: list[Report] = field(default_factory=list)

    @property
    def broker(self) -> Server:
        """What carries the queues."""
        return self.rabbit or self.redis

    @property
    def carrier(self) -> str:
        return "RabbitMQ" if self.rabbit else "Redis"

    @property
    def least(self) -> int:
        """Jobs that meet a fault."""
        return 200 if self.long else 20

    @property
    def kills(self) -> int:
        """How often each process is killed."""
        return 20 if self.long else 1

    @property
    def times(self) -> int:
        """How often any other fault happens."""
        return 5 if self.long else 1

    @contextmanager
    def met(self, fault: str, *, archives: bool = True, times: int = 1) -> Iterator["Meeting"]:
        """People are at work while the block makes a fault happen; afterwards nothing is lost or doubled.

        The block may name jobs that must fail, and says when the fault is over by `meeting.recovered()`.
        """
        if self.rabbit and self.carrier not in fault:
            fault = f"{self.carrier}: {fault}"
        meeting = Meeting(self, Work(re.sub(r"\W+", "-", fault)))
        with self.people.at_work(meeting.work, self.least, archives=archives):
            yield meeting
        meeting.judge(times)

    def sabotaged(self, fault: str, order: object = None) -> None:
        """Turn a fault of tests/faults/sabotage on, or off without an order."""
        path = self.sabotage / fault
        if order is None:
            path.unlink(missing_ok=True)
            return
        draft = path.with_suffix(".new")
        draft.write_text(str(order))
        draft.replace(path)

    def kill(self, role: str) -> None:
        """SIGKILL, and wait until the process manager has put another one in its place."""
        killed = processes.kill(self.system, role)
        assert killed, f"no process of {role} to kill"
        processes.await_other(self.system, role, killed)

    def pause(self, seconds: float) -> None:
        """The fault lasts."""
        threading.Event().wait(seconds)

    def until(self, condition: Callable[[], bool]) -> None:
        """Raises: TimeoutError"""
        until = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > until:
                raise TimeoutError
            time.sleep(0.05)

    def said(self, role: str, word: str) -> int:
        """How often a word stands in the log of a role."""
        return (self.settings.data_path / f"logs/{role}.log").read_text(errors="replace").count(word)

    def ids(self, work: Work) -> list[str]:
        """Of the jobs so far."""
        return list(self.db.read(lambda s: s.scalars(select(JobRow.id).where(JobRow.id > work.since)).all()))

    def repeat(self, work: Work, rng: random.Random) -> int:
        """Send what waits in the queues once more, shuffled; answers with the number of messages."""
        if self.rabbit:  # where nobody can look into a queue: the same messages, made anew
            return self._dispatch_again(work, rng)
        repeated = 0
        with self.redis.client() as client:
            for name in client.scan_iter("*.*.*", _type="list"):
                messages = client.lrange(name, 0, -1)
                rng.shuffle(messages)
                client.rpush(name, *messages)
                repeated += len(messages)
        return repeated

    def _dispatch_again(self, work: Work, rng: random.Random) -> int:
        waiting = select(JobRow).where(JobRow.id > work.since, JobRow.status == Status.QUEUED.value)
        rows = list(self.db.read(lambda s: s.scalars(waiting).all()))
        rng.shuffle(rows)
        dispatcher = Dispatcher(self.settings)
        sent = [
            dispatcher.dispatch([row.id], row.stage, PIPELINES[row.pipeline].group, row.lane) for row in rows
        ]
        dispatcher.close()
        return sum(sent)

    def unsettled(self, work: Work) -> list[str]:
        """Ids of the work's jobs and batches that have not ended."""
        jobs = select(JobRow.id).where(JobRow.id > work.since, JobRow.status.not_in(TERMINAL))
        batches = select(BatchRow.id).where(BatchRow.id > work.since, BatchRow.completed_at.is_(None))
        return self.db.read(lambda s: [*s.scalars(jobs), *s.scalars(batches)])

    def await_health(self) -> None:
        """Every part is there again, without a hand. Raises: TimeoutError"""
        until = time.monotonic() + PATIENCE_S
        missing: object = "the API"
        while time.monotonic() < until:
            try:
                ready = httpx.get(f"{self.system.url}/readyz", timeout=10).json()
                if not (missing := ready.get("degraded", ready)):
                    return
            except (httpx.HTTPError, ValueError) as error:
                missing = error
            time.sleep(0.1)
        raise TimeoutError(f"still missing: {missing}")


@dataclass
class Meeting:
    """People and a fault."""

    room: Room
    work: Work
    failing: set[str] = field(default_factory=set)  # names of jobs that must fail
    recovered_s: float = 0.0
    evidence: Evidence | None = None

    def recovered(self) -> None:
        """The fault is over: take the time until a job that is sent now has ended."""
        began = time.monotonic()
        self.room.people.ask(self.work)
        self.recovered_s = max(self.recovered_s, time.monotonic() - began)

    def judge(self, times: int) -> None:
        room, work = self.room, self.work
        self._settle()
        found = self.evidence = self.so_far()
        lost, doubled = found.lost(work, frozenset(self.failing)), found.doubled(work)
        outcomes = found.outcomes()
        room.reports.append(
            Report(work.name, len(work.accepted), times, lost, doubled, outcomes["lose"], self.recovered_s)
        )
        if lost or doubled:
            raise JobsLost(f"lost: {lost}, doubled: {doubled}")
        assert outcomes["open"] == 0
        assert found.asked_too_often(room.language_model.calls) == []
        room.await_health()

    def so_far(self) -> Evidence:
        return Evidence.of(self.room.db, self.work)

    def _settle(self) -> None:
        """A batch ends a moment after its last job. Raises: JobsLost"""
        try:
            self.room.until(lambda: not self.room.unsettled(self.work))
        except TimeoutError as error:
            raise JobsLost(f"never ended: {self.room.unsettled(self.work)}") from error

    @property
    def outcomes(self) -> dict[str, int]:
        """How attempts ended, once the block is over."""
        assert self.evidence
        return dict(self.evidence.outcomes())
