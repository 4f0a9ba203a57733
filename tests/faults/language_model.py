"""A language model that misbehaves as a question asks it to, and counts how often it was asked.

`lm-429-2` in a question: the first two calls are answered with 429. Other faults: 500, garbage (no stream at all),
half (a stream that breaks off), silent (nothing for ever). Without such a word it answers well.
"""

import contextlib
import re
import threading
import time
from collections import Counter
from http.server import ThreadingHTTPServer

from tests.scripted_llm import Handler, reply_to

NAMED = re.compile(r"Question ([\w.-]+/\w+)")
FAULT = re.compile(r"lm-(429|500|garbage|half|silent)-(\d+)")


class LanguageModel:
    """The server, on a free port of this process."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()  # by the question's name
        self.pause_s = 0.02
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def asked(self, body: str) -> tuple[str, int]:
        """The fault that this call meets, if any, and how many calls of the question came before."""
        named = NAMED.search(body)
        name = named[1] if named else "?"
        with self._lock:
            before = self.calls[name]
            self.calls[name] += 1
        fault = FAULT.search(body)
        return (fault[1] if fault and before < int(fault[2]) else ""), before

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(model) -> type[Handler]:  # noqa: N805, the class inside has a self of its own
        class Misbehaving(Handler):
            def answer(self, body: bytes) -> None:
                fault, _ = model.asked(body.decode())
                time.sleep(model.pause_s)
                with contextlib.suppress(OSError):  # whoever asked has died
                    getattr(self, f"_{fault}")() if fault else self.write(reply_to(body))

            def _429(self) -> None:
                self._refuse(429)

            def _500(self) -> None:
                self._refuse(500)

            def _garbage(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(b"<html>\xff\x00 it works!</html>")
                self.close_connection = True

            def _half(self) -> None:
                self.begin()
                self.word("The findings are", 0)
                self.close_connection = True

            def _silent(self) -> None:
                model.over.wait(60)
                self.close_connection = True

            def _refuse(self, status: int) -> None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

        return Misbehaving
