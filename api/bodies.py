"""How many requests may be on their way in at once, so that clients who send slowly leave threads for all others.

A thread reads its request's body to the end, however long the client takes for it.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Any

from shared.errors import ServiceUnavailable

App = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Bodies:
    """A WSGI middleware: past `most` bodies the next one is refused when it is read, and says when to come again."""

    def __init__(self, app: App, most: int) -> None:
        self._app = app
        self._free = threading.BoundedSemaphore(most)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = Body(environ["wsgi.input"], self._free)
        environ["wsgi.input"] = body
        try:
            return self._app(environ, start_response)
        finally:
            body.let_go()  # an answer may go on for long, and reads nothing any more


class Body:
    """The stream of one request; it takes a place with its first read."""

    def __init__(self, stream: Any, free: threading.BoundedSemaphore) -> None:
        self._stream = stream
        self._free = free
        self._held = False

    def read(self, size: int = -1) -> bytes:
        """Raises: ServiceUnavailable when every place is taken"""
        self._take()
        found: bytes = self._stream.read(size)
        return found

    def readline(self, size: int = -1) -> bytes:
        self._take()
        found: bytes = self._stream.readline(size)
        return found

    def let_go(self) -> None:
        if self._held:
            self._held = False
            self._free.release()

    def _take(self) -> None:
        if self._held:
            return
        if not self._free.acquire(blocking=False):
            raise ServiceUnavailable("Too many requests are being received at the moment.", retry_after_s=1)
        self._held = True
