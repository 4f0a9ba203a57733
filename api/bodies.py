"""How many requests may be on their way in at once, so that clients who send slowly leave threads for all others.

A thread reads its request's body to the end, however long the client takes for it.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Any

from shared.errors import ServiceUnavailable

PATIENCE_S = 0.5

App = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Bodies:
    """A WSGI middleware: past `most` bodies the next one waits a moment, then is refused and told when to come again."""

    def __init__(self, app: App, most: int) -> None:
        self._app = app
        self._free = threading.BoundedSemaphore(most)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        length = environ.get("CONTENT_LENGTH") or ""
        body = Body(environ["wsgi.input"], self._free, int(length) if length.isdecimal() else None)
        environ["wsgi.input"] = body
        try:
            return self._app(environ, start_response)
        finally:
            body.let_go()  # an answer may go on for long, and reads nothing any more


class Body:
    """The stream of one request; it holds a place from its first read until all of it has come."""

    def __init__(self, stream: Any, free: threading.BoundedSemaphore, length: int | None) -> None:
        self._stream = stream
        self._free = free
        self._left = length  # bytes that are still to come; None when the client does not say
        self._held = False

    def read(self, size: int = -1) -> bytes:
        """Raises: ServiceUnavailable when every place is taken"""
        self._take()
        return self._came(self._stream.read(size), size)

    def readline(self, size: int = -1) -> bytes:
        self._take()
        return self._came(self._stream.readline(size), size)

    def _came(self, found: bytes, asked: int) -> bytes:
        if self._left is not None:
            self._left -= len(found)
        if self._left == 0 or (not found and asked != 0):
            self.let_go()
        return found

    def let_go(self) -> None:
        if self._held:
            self._held = False
            self._free.release()

    def _take(self) -> None:
        if self._held or self._left == 0:
            return
        # Whoever sends at once needs a place for milliseconds, so that a burst only has to wait its turn.
        if not self._free.acquire(timeout=PATIENCE_S):
            raise ServiceUnavailable("Too many requests are being received at the moment.", retry_after_s=1)
        self._held = True
