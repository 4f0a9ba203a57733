"""Counts what a network does: how long its passes take, how full they are, and how busy the device is."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from prometheus_client import Counter
from torch import Tensor

from shared.figures import Figures


class Busy:
    """Counts the time in which anything runs; what overlaps counts once, so that no device is busier than it can be."""

    def __init__(self, seconds: Counter, clock: Callable[[], float] = time.perf_counter) -> None:
        self._seconds, self._clock = seconds, clock
        self._running, self._since = 0, 0.0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            if not self._running:
                self._since = self._clock()
            self._running += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._running -= 1
            if not self._running:
                self._seconds.inc(self._clock() - self._since)


class Counted:
    """A network whose passes are counted. One that fails keeps the device busy, and counts as none."""

    def __init__(
        self,
        run: Callable[[list[Tensor]], list[Any]],
        head: str,
        largest: int,
        figures: Figures,
        busy: Busy,
    ) -> None:
        self._run, self._largest, self._busy = run, largest, busy
        self._seconds = figures.forward_seconds.labels(head)
        self._fill = figures.microbatch_fill.labels(head)
        self._pictures = figures.pictures.labels(head)

    def __call__(self, pictures: list[Tensor]) -> list[Any]:
        began = time.perf_counter()
        with self._busy:
            rows = self._run(pictures)
        self._seconds.observe(time.perf_counter() - began)
        self._fill.observe(len(pictures) / self._largest)
        self._pictures.inc(len(pictures))
        return rows
