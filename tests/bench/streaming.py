"""An OpenAI-compatible server for benches: a good reply word by word, to a crowd of calls that are open at once.

python -m tests.bench.streaming CROWD
"""

import json
import re
import sys
import threading
import time
from http.server import ThreadingHTTPServer

from tests.scripted_llm import Handler, reply_to

CROWD_S = 120.0  # how long half a reply waits for the rest of its crowd


class Streaming(Handler):
    """Each call gets half of its reply, and the rest once the whole crowd has its half."""

    crowd: threading.Barrier
    stamps: dict[str, int]  # ns of CLOCK_MONOTONIC when the last reply's first word and its end were written

    def answer(self, body: bytes) -> None:
        self.write(reply_to(body))

    def write(self, reply: str) -> None:
        words = re.findall(r"\S+\s*", reply)
        self.begin()
        self._stamp("first")
        for number, word in enumerate(words):
            if number == len(words) // 2:
                self.crowd.wait(CROWD_S)
            self.word(word, number)
        self._event(
            {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}}, 9
        )
        self._stamp("end")
        self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, 9)
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def do_GET(self) -> None:  # noqa: N802 - its caller names it
        """The stamps of the last reply."""
        body = json.dumps(self.stamps).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stamp(self, name: str) -> None:
        self.stamps[name] = time.monotonic_ns()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1_024  # a crowd comes all at once


def main() -> None:
    Streaming.crowd, Streaming.stamps = threading.Barrier(int(sys.argv[1])), {}
    server = Server(("127.0.0.1", 0), Streaming)
    print(f"ready {server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
