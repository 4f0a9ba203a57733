"""Takes jobs and rejected entries in, some hundreds to a transaction, while the next ones are being read."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from shared import batches
from shared.batches import NewRejected
from shared.database import Database
from shared.errors import StaleAttempt
from shared.jobs import NewJob
from shared.lifecycle import first_stage
from shared.queue import Hints
from shared.settings import Settings
from shared.storage import Storage
from shared.tables import BatchRow
from workers.refill import Refiller

IMAGE = "image"  # the artifact's name
CHUNK = 32  # pictures that a thread writes at a time
MOST_BYTES = 8 * 2**20  # of pictures that are held at once, per group


class Stopped(Exception):
    """The process is to end; the batch goes on elsewhere."""


@dataclass(frozen=True)
class Step:
    """What became of one entry."""

    entry: int
    made: NewJob | NewRejected
    picture: bytes = b""


class Steps(Protocol):
    """Where entries come from."""

    def count(self) -> int | None:
        """How many steps there will be in all, as far as it can be told."""

    def steps(self) -> Iterator[Step]:
        """Those from the checkpoint on, in order. Raises RequestError where they cannot go on."""


@dataclass
class Group:
    """Entries that share a transaction."""

    jobs: list[NewJob] = field(default_factory=list)
    rejected: list[NewRejected] = field(default_factory=list)
    pictures: dict[str, bytes] = field(default_factory=dict)  # not yet handed to a thread
    writing: list["Future[None]"] = field(default_factory=list)
    size_bytes: int = 0
    checkpoint: int = 0

    def add(self, step: Step) -> None:
        self.checkpoint = step.entry + 1
        if isinstance(step.made, NewRejected):
            self.rejected.append(step.made)
            return
        self.jobs.append(step.made)
        self.pictures[f"{step.made.id}/{IMAGE}"] = step.picture
        self.size_bytes += len(step.picture)

    def __len__(self) -> int:
        return len(self.jobs) + len(self.rejected)


class Intake:
    """One claim on one batch. Reading, writing pictures and committing overlap, one group deep."""

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

    def run(self, source: Steps, stop: threading.Event, lost: threading.Event) -> None:
        """Every entry from the checkpoint on. What came before an error is committed before it is raised.

        Raises: Stopped, StaleAttempt, and what the source raises
        """
        if (count := source.count()) is not None:
            batches.expect(self._db, self._batch_id, self._claim_id, count)
        with ThreadPoolExecutor(1, "pictures") as writers, ThreadPoolExecutor(1, "commits") as committer:
            committing: Future[None] | None = None
            group = Group()
            try:
                for step in source.steps():
                    group.add(step)
                    if len(group.pictures) >= CHUNK:
                        self._write(group, writers)
                    if len(group) >= self._most or group.size_bytes >= MOST_BYTES:
                        committing = self._hand_over(group, writers, committer, committing)
                        group = Group()
                        _check(stop, lost)
            finally:
                # Whatever ended the reading, what was read counts; a lost claim says so by itself.
                if len(group):
                    committing = self._hand_over(group, writers, committer, committing)
                if committing:
                    committing.result()

    def _write(self, group: Group, writers: ThreadPoolExecutor) -> None:
        pictures, group.pictures = group.pictures, {}
        group.writing.append(writers.submit(self._storage.put_many, pictures))

    def _hand_over(
        self,
        group: Group,
        writers: ThreadPoolExecutor,
        committer: ThreadPoolExecutor,
        before: "Future[None] | None",
    ) -> "Future[None]":
        if group.pictures:
            self._write(group, writers)
        if before:
            before.result()
        return committer.submit(self._commit, group)

    def _commit(self, group: Group) -> None:
        for writing in group.writing:
            writing.result()
        if group.writing:
            self._storage.sync()
        batches.accept(self._db, self._batch_id, self._claim_id, group.jobs, group.rejected, group.checkpoint)
        self._version += 1
        self._hints.publish({self._batch_id: self._version})
        for pipeline in {job.pipeline for job in group.jobs}:
            self._refiller.ask(first_stage(), pipeline)


def _check(stop: threading.Event, lost: threading.Event) -> None:
    if lost.is_set():
        raise StaleAttempt()
    if stop.is_set():
        raise Stopped()
