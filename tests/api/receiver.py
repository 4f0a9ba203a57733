"""A receiver of webhooks on loopback that behaves as a test tells it: answers, fails, redirects, stalls, drips."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Receiver:
    """What came, and what is answered next: a status, or `stall` or `drip`; the last one goes on for ever."""

    port: int = 0
    came: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)  # path, headers, body
    script: list[int | str] = field(default_factory=lambda: [204])
    location: str = ""
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?x=1"

    def next(self) -> int | str:
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]


@contextmanager
def receiving() -> Iterator[Receiver]:
    told = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.came.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            step = told.next()
            if step == "stall":
                told.over.wait()
            elif step == "drip":
                while not told.over.wait(0.05):
                    self.wfile.write(b"H" if told.over.is_set() else b" ")
            else:
                self.send_response(int(step))
                if told.location:
                    self.send_header("Location", told.location)
                self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a sender that gave up

    server = Quiet(("127.0.0.1", 0), Handler)
    told.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield told
    finally:
        told.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
