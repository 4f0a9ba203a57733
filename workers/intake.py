"""Takes jobs and rejected entries in, some hundreds to a transaction, while the next ones are being read."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from shared import batches
from shared.batches import NewRejected
from shared.database import Database
from shared.errors import StaleAttempt
from shared.job_types import NewJob
from shared.lifecycle import first_stage
from shared.queue import Hints
from shared.settings import Settings
from shared.storage import Storage
from shared.tables import BatchRow
from workers.refill import Refiller

IMAGE = "image"  # the artifact's name
CHUNK = 16  # entries that a thread makes at a time
CHUNK_BYTES = 2**20
MOST_BYTES = 8 * 2**20  # of entries that are held at once, per group


class Stopped(Exception):
    """The process is to end; the batch goes on elsewhere."""


@dataclass(frozen=True)
class Made:
    """What became of one entry."""

    outcome: NewJob | NewRejected
    picture: bytes = b""


@dataclass(frozen=True)
class Taken:
    """One entry as it was read; any thread may make a job of it."""

    entry: int
    size_bytes: int
    make: Callable[[], Made]


class Source(Protocol):
    """Where entries come from."""

    def count(self) -> int | None:
        """How many there will be in all, as far as it can be told."""

    def entries(self) -> Iterator[Taken]:
        """Those from the checkpoint on, in order. Raises RequestError where they cannot go on."""


@dataclass
class Group:
    """Entries that share a transaction."""

    waiting: list[Taken] = field(default_factory=list)  # not yet handed to a thread
    waiting_bytes: int = 0
    making: list["Future[list[NewJob | NewRejected]]"] = field(default_factory=list)
    size: int = 0
    size_bytes: int = 0
    checkpoint: int = 0

    def add(self, taken: Taken) -> None:
        self.waiting.append(taken)
        self.waiting_bytes += taken.size_bytes
        self.size += 1
        self.size_bytes += taken.size_bytes
        self.checkpoint = taken.entry + 1


class Intake:
    """One claim on one batch. Reading, making jobs of what was read, and committing overlap.

    Unpacking, hashing and writing leave the interpreter to other threads, so this uses more than one core.
    """

    def __init__(
        self,
        db: Database,
        storage: Storage,
        hints: Hints,
        refiller: Refiller,
        settings: Settings,
        row: BatchRow,
    ) -> None:
        self._db, self._storage, self._hints, self._refiller = db, storage, hints, refiller
        self._most = settings.archive_group
        self._batch_id, self._claim_id, self._version = row.id, row.claim_id or "", row.version

    def run(self, source: Source, stop: threading.Event, lost: threading.Event) -> None:
        """Every entry from the checkpoint on. What came before an error is committed before it is raised.

        Raises: Stopped, StaleAttempt, and what the source raises
        """
        if (count := source.count()) is not None:
            batches.expect(self._db, self._batch_id, self._claim_id, count)
        with ThreadPoolExecutor(2, "make") as makers, ThreadPoolExecutor(1, "commit") as committer:
            committing: Future[None] | None = None
            group = Group()
            try:
                for taken in source.entries():
                    group.add(taken)
                    if len(group.waiting) >= CHUNK or group.waiting_bytes >= CHUNK_BYTES:
                        self._make(group, makers)
                    if group.size >= self._most or group.size_bytes >= MOST_BYTES:
                        committing = self._hand_over(group, makers, committer, committing)
                        group = Group()
                        _check(stop, lost)
            finally:
                # Whatever ended the reading, what was read counts; a lost claim says so by itself.
                if group.size:
                    committing = self._hand_over(group, makers, committer, committing)
                if committing:
                    committing.result()

    def _make(self, group: Group, makers: ThreadPoolExecutor) -> None:
        waiting, group.waiting, group.waiting_bytes = group.waiting, [], 0
        group.making.append(makers.submit(self._make_all, waiting))

    def _make_all(self, waiting: list[Taken]) -> list[NewJob | NewRejected]:
        made = [taken.make() for taken in waiting]
        pictures = {
            f"{one.outcome.id}/{IMAGE}": one.picture for one in made if isinstance(one.outcome, NewJob)
        }
        self._storage.put_many(pictures)
        return [one.outcome for one in made]

    def _hand_over(
        self,
        group: Group,
        makers: ThreadPoolExecutor,
        committer: ThreadPoolExecutor,
        before: "Future[None] | None",
    ) -> "Future[None]":
        if group.waiting:
            self._make(group, makers)
        if before:
            before.result()
        return committer.submit(self._commit, group)

    def _commit(self, group: Group) -> None:
        made = [outcome for making in group.making for outcome in making.result()]
        jobs = [outcome for outcome in made if isinstance(outcome, NewJob)]
        rejected = [outcome for outcome in made if isinstance(outcome, NewRejected)]
        if jobs:
            self._storage.sync()
        batches.accept(self._db, self._batch_id, self._claim_id, jobs, rejected, group.checkpoint)
        self._version += 1
        self._hints.publish({self._batch_id: self._version})
        for pipeline in {job.pipeline for job in jobs}:
            self._refiller.ask(first_stage(), pipeline)


def _check(stop: threading.Event, lost: threading.Event) -> None:
    if lost.is_set():
        raise StaleAttempt()
    if stop.is_set():
        raise Stopped()
