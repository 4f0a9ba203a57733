"""Runs the messages of a slow stage on few threads of their own, so that they never hold a fast stage's."""

import threading
from collections.abc import Callable
from queue import Empty, Full, Queue

import structlog

LONGEST_LINE = 64  # messages

log = structlog.get_logger(__name__)


class Beside:
    """Messages wait here unclaimed: when this process ends, the sweeper finds their jobs in the database."""

    def __init__(self, run: Callable[[list[str]], int], threads: int, name: str) -> None:
        self._run = run
        self._line: Queue[list[str]] = Queue(LONGEST_LINE)
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{n}", daemon=True) for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def message(self, ids: list[str]) -> None:
        """Take a message; one too many is dropped, and comes again from the sweeper."""
        try:
            self._line.put_nowait(ids)
        except Full:
            log.info("line_full", jobs=len(ids))

    def close(self) -> None:
        """Finish what runs, leave the rest."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while not self._stopped.is_set():
            try:
                ids = self._line.get(timeout=0.2)
            except Empty:
                continue
            try:
                self._run(ids)
            except Exception:
                log.exception("message_failed", jobs=len(ids))
