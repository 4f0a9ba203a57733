"""How many archives, results and event streams may be under way at once, so that others find threads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Response

from shared.errors import ServiceUnavailable


class Slots:
    """A fixed number of places; nobody waits for one."""

    def __init__(self, number: int, what: str = "archives and results are on their way") -> None:
        self._what = what
        self._free = threading.BoundedSemaphore(number)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Raises: ServiceUnavailable when every place is taken"""
        self._take()
        try:
            yield
        finally:
            self._free.release()

    def held_by(self, response: Response) -> Response:
        """Until the last byte is sent, or the client has gone. Raises: ServiceUnavailable"""
        self._take()
        response.call_on_close(self._free.release)
        return response

    def _take(self) -> None:
        if not self._free.acquire(blocking=False):
            raise ServiceUnavailable(f"Too many {self._what}.", retry_after_s=5)
