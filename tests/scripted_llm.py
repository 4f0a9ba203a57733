"""An OpenAI-compatible server process for tests: streams one scripted sentence, and keeps what it was sent.

python -m tests.scripted_llm PORT FILE
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

WORDS = ("This is what ", "the findings suggest; ", "please have it looked at.")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    kept: Path
    lock = threading.Lock()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(body)

    def answer(self, body: bytes) -> None:
        with self.lock, self.kept.open("ab") as file:
            file.write(body.replace(b"\n", b" ") + b"\n")
        self.write()

    def write(self) -> None:
        """The whole sentence, and what it cost."""
        self.begin()
        for number, word in enumerate(WORDS):
            self.word(word, number)
        self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, 9)
        self._event(
            {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}}, 9
        )
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def begin(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()

    def word(self, word: str, number: int) -> None:
        self._event({"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}, number)

    def _event(self, content: dict[str, object], number: int) -> None:
        chunk = {"id": "x", "object": "chat.completion.chunk", "created": number, "model": "scripted-1"}
        self.wfile.write(b"data: " + json.dumps(chunk | content).encode() + b"\n\n")

    def log_message(self, format: str, *args: object) -> None:
        """Tests read the file and not the terminal."""


def main() -> None:
    Handler.kept = Path(sys.argv[2])
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    server.daemon_threads = True
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
