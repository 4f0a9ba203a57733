"""An answer while it is being written: hints over the broker, at most ten a second, and never a fault."""

import time
from threading import Lock

from shared.queue import Hints

PAUSE_S = 0.1


class Draft:
    """One attempt's answer as far as it is written, for people who watch.

    It is unchecked and may be lost: the answer that counts is the one in the job's row.
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
