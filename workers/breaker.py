"""Leaves a language model alone that has failed several times, and lets one call in now and then."""

import random
import time
from collections.abc import Callable
from threading import Lock

FAILURES = 3  # in a row, before it is left alone
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 120.0


class Breaker:
    """Closed while calls succeed; open for a growing pause after FAILURES in a row; then one call decides.

    One object a process: the workers' own failures are what it knows.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, Lock()
        self._failures, self._open_until, self._probing = 0, 0.0, False

    def admit(self) -> float | None:
        """None when a call may be made, else the seconds until the next look."""
        with self._lock:
            if self._failures < FAILURES:
                return None
            left = self._open_until - self._clock()
            if left <= 0 and not self._probing:
                self._probing = True
                return None
            return max(left, 1.0)

    def succeeded(self) -> None:
        with self._lock:
            self._failures, self._probing = 0, False

    def failed(self, retry_after_s: float | None = None) -> None:
        """Count a failure; what the server asks for with Retry-After is never undercut."""
        with self._lock:
            self._failures, self._probing = self._failures + 1, False
            grown = FIRST_PAUSE_S * 2 ** min(self._failures - FAILURES, 10)
            pause = min(LONGEST_PAUSE_S, grown) * random.uniform(0.75, 1.25)
            self._open_until = self._clock() + max(pause, retry_after_s or 0.0)

    def abandoned(self) -> None:
        """The call ended for a reason of ours: it says nothing about the server."""
        with self._lock:
            self._probing = False
