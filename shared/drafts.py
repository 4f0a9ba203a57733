"""What is told of an answer before it is recorded: hints over the broker, a few a second, and never a fault."""

import time
from collections.abc import Callable
from threading import Lock

from shared.queue import Hints

PAUSE_S = 0.1
COUNT_PAUSE_S = 1.0


class Draft:
    """One attempt's answer as far as it may be shown, for people who watch.

    It may be lost: the answer that counts is the one in the job's row.
    """

    def __init__(self, hints: Hints, job_id: str, attempt: int) -> None:
        self._hints, self._job_id, self._attempt = hints, job_id, attempt
        self._text, self._told, self._told_at = "", "", 0.0
        self._lock = Lock()

    def add(self, text: str) -> None:
        """Append a piece; whoever watches hears of it within a moment, or with the next piece."""
        with self._lock:
            self._text += text
            if time.monotonic() - self._told_at >= PAUSE_S:
                self._tell()

    def end(self) -> None:
        """Tell what is not told yet."""
        with self._lock:
            if self._text != self._told:
                self._tell()

    def _tell(self) -> None:
        self._hints.keep_draft(self._job_id, self._attempt, self._text)
        self._told, self._told_at = self._text, time.monotonic()


class Written:
    """How much a language model has written for one attempt, for people who wait; not a word of it is checked yet.

    The thread that reads the model counts, another one tells, so that telling never holds up the reading.
    """

    def __init__(
        self, hints: Hints, job_id: str, attempt: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._hints, self._job_id, self._attempt, self._clock = hints, job_id, attempt, clock
        self._characters, self._told, self._told_at = 0, 0, -COUNT_PAUSE_S

    def count(self, text: str) -> None:
        self._characters += len(text)

    def telling(self, lost: Callable[[], bool]) -> Callable[[], bool]:
        """The same question, which a call of a model asks a few times a second; each time it also tells what is new."""

        def asked() -> bool:
            self._tell()
            return lost()

        return asked

    def _tell(self) -> None:
        now = self._clock()
        if self._characters > self._told and now - self._told_at >= COUNT_PAUSE_S:
            self._told, self._told_at = self._characters, now
            self._hints.keep_written(self._job_id, self._attempt, self._told)
