"""How many archives may come in and results go out at once, so that slow clients leave threads for everybody else."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Response

from shared.errors import ServiceUnavailable


class Slots:
    """A fixed number of places; nobody waits for one."""

    def __init__(self, number: int) -> None:
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
            raise ServiceUnavailable("Too many archives and results are on their way.", retry_after_s=5)
