"""The microbatcher: while the device is busy, what arrives collects; while it is idle, nothing waits."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeAlias, TypeVar

import structlog

from shared.errors import OutOfMemory, ServiceUnavailable
from shared.steps import Step, current, note

T = TypeVar("T")
R = TypeVar("R")

# What was handed in, where its result goes, and where steps of its attempt are kept, if anywhere
Item: TypeAlias = tuple[T, Future[R], list[Step] | None]

RANKS = {"interactive": 0, "bulk": 1, "explain": 2}  # who goes first

log = structlog.get_logger(__name__)


class Microbatcher(Generic[T, R]):
    """Threads hand in items and wait on futures; one thread, or as many as `threads`, runs them together.

    There is no timer: a fixed wait would cost a lone item its whole length and a busy device nothing.
    `run` answers with one result per item, in order. With `bisect`, a microbatch that fails is run again
    in halves, so that one bad item fails alone; out of memory also halves `largest` for good. With a `step`, whoever
    keeps what an attempt took is told of each pass by that name.
    """

    def __init__(
        self,
        run: Callable[[list[T]], Sequence[R]],
        *,
        largest: int,
        name: str,
        bisect: bool = False,
        threads: int = 1,
        step: str = "",
    ) -> None:
        self.largest = largest
        self._step = step
        self._run = run
        self._bisect = bisect
        self._waiting: tuple[deque[Item[T, R]], ...] = tuple(deque() for _ in RANKS)
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [threading.Thread(target=self._loop, name=name, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, item: T, rank: int = 0) -> "Future[R]":
        """Lower ranks go first; within a rank, first come.

        Raises: ServiceUnavailable after close()
        """
        future: Future[R] = Future()
        with self._changed:
            if self._closed:
                raise ServiceUnavailable("The worker is stopping.")
            self._waiting[rank].append((item, future, current() if self._step else None))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Run what was handed in, then stop."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _loop(self) -> None:
        while batch := self._collect():
            self._settle(batch)

    def _collect(self) -> list[Item[T, R]]:
        """What waits now, up to `largest`; blocks until there is something, empty once closed."""
        with self._changed:
            while not self._closed and not any(self._waiting):
                self._changed.wait()
            batch: list[Item[T, R]] = []
            for queue in self._waiting:
                while queue and len(batch) < self.largest:
                    batch.append(queue.popleft())
            return batch

    def _settle(self, batch: list[Item[T, R]]) -> None:
        began_ns = time.time_ns()
        try:
            results = self._run([item for item, _, _ in batch])
            self._tell(batch, began_ns)
            for (_, future, _), result in zip(batch, results, strict=True):
                future.set_result(result)
        except Exception as error:
            if isinstance(error, OutOfMemory):
                self.largest = max(1, len(batch) // 2)
                log.warning("out_of_memory", microbatch=len(batch), largest=self.largest)
            if len(batch) == 1 or not self._bisect:
                for _, future, _ in batch:
                    future.set_exception(error)
                return
            middle = len(batch) // 2
            self._settle(batch[:middle])
            self._settle(batch[middle:])

    def _tell(self, batch: list[Item[T, R]], began_ns: int) -> None:
        """Before the futures are done, and with them whoever reads it. Several tiles of a picture are one pass."""
        told = {id(steps): steps for _, _, steps in batch if steps is not None}
        if not told:
            return
        one = Step(self._step, began_ns, time.time_ns(), {"medq.microbatch": len(batch)})
        for steps in told.values():
            note(steps, one)
