"""A Flask app behind a real socket, in a thread of the test's own process."""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flask import Flask
from werkzeug.serving import BaseWSGIServer, make_server

Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]


def serve(app: Flask, port: int = 0) -> BaseWSGIServer:
    """Serve until `shutdown()` and `server_close()`; port 0 takes a free one, `.port` says which."""
    server = make_server("127.0.0.1", port, _closing(app), threaded=True)
    server.daemon_threads = True  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


def _closing(app: Wsgi) -> Wsgi:
    """werkzeug reads on before it closes a body, and forgets the body, its file open, if the reader reset the connection.

    PEP 3333 has it closed. A generator that is dropped is closed, and closes what it reads from.
    """

    def served(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        body = app(environ, start_response)
        try:
            yield from body
        finally:
            if close := getattr(body, "close", None):
                close()

    return served
