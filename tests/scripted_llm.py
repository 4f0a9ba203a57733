"""An OpenAI-compatible server process for tests: streams a reply that rests on the prompt, and keeps what it was sent.

python -m tests.scripted_llm PORT FILE
"""

import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PIECES = 3  # in which a reply is streamed
MOST_URGENT = {"mel": 0, "akiec": 1, "bcc": 1, "vasc": 1}


def reply_to(body: bytes) -> str:
    """What a good model says in English: the findings above their thresholds, and the first passage's own words."""
    text = "\n".join(message["content"] for message in json.loads(body)["messages"])
    findings, passages = (
        json.loads(re.findall(rf"<{name}>(.*?)</{name}>", text, re.DOTALL)[-1])
        for name in ("findings", "passages")
    )
    flagged = [finding for finding in findings if finding["above_threshold"]]
    # The most urgent first, and of equals the most probable, as everybody who answers must.
    main = min(flagged, key=lambda finding: MOST_URGENT.get(finding["label"], 2))
    passage = next(passage for passage in passages if passage["id"] == f"skin/{main['label']}/what")
    share = min(max(round(100 * main["probability"]), 1), 99)
    reply = {
        "answer": passage["text"],
        "urgency": "within_days",
        "suggests": f"The picture suggests {main['name']} ({share}%).",
        "cannot_tell": ["Only an examination can tell what the spot is."],
        "next_step": "Have the spot examined by a dermatologist within the next few days.",
        "department": None,
        "citations": [{"id": passage["id"], "quote": passage["text"]}],
    }
    return json.dumps(reply)


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
        self.write(reply_to(body))

    def write(self, reply: str) -> None:
        """The whole reply, and what it cost."""
        self.begin()
        size = len(reply) // PIECES + 1
        for number in range(PIECES):
            self.word(reply[number * size : (number + 1) * size], number)
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
