"""Azure OpenAI's face, as its public contract and those who met it describe it. No real Azure is reached by any test.

A call names its deployment in the path and its contract in the query, and brings its key in a header of its own. A stream
begins with a chunk without choices that tells how the prompt was filtered; each piece tells how it was filtered, and a
chunk without a delta tells how far the filter has come. Errors are objects with a code.
Source: https://learn.microsoft.com/azure/ai-services/openai/reference (path, api-version, api-key);
https://learn.microsoft.com/azure/ai-services/openai/concepts/content-filter (filtered prompts and answers);
https://learn.microsoft.com/azure/ai-services/openai/how-to/provisioned-get-started (retry-after-ms);
https://github.com/Azure/azure-sdk-for-go/issues/21086 (no choices), https://github.com/microsoft/autogen/issues/6465 (no
delta), https://github.com/openai/openai-python/issues/957 (retry-after-ms)
"""

import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

VERSION, DEPLOYMENT, KEY = "2024-10-21", "asked-for", "secret"
PATH = f"/openai/deployments/{DEPLOYMENT}/chat/completions?api-version={VERSION}"
TIMEOUT_S = 120

SAFE = {"filtered": False, "severity": "safe"}
RESULTS: dict[str, Any] = dict.fromkeys(("hate", "self_harm", "sexual", "violence"), SAFE)


def _event(body: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


_NAMELESS = {"id": "", "object": "", "created": 0, "model": ""}
PROMPT_FILTERED = _event(
    _NAMELESS
    | {"choices": [], "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": RESULTS}]}
)
FILTER_AT = _event(
    _NAMELESS
    | {
        "choices": [
            {
                "finish_reason": None,
                "index": 0,
                "content_filter_offsets": {"check_offset": 0, "start_offset": 0, "end_offset": 9},
                "content_filter_results": RESULTS,
            }
        ]
    }
)


def error(code: str, message: str, **more: Any) -> bytes:
    return json.dumps({"error": {"code": code, "message": message} | more}).encode()


PROMPT_REFUSED = error(
    "content_filter",
    "The response was filtered due to the prompt triggering the content management policy: Kim asks about a mole.",
    param="prompt",
    status=400,
    innererror={
        "code": "ResponsibleAIPolicyViolation",
        "content_filter_result": RESULTS | {"self_harm": {"filtered": True, "severity": "high"}},
    },
)


def refusal(path: str, headers: Mapping[str, str]) -> tuple[int, bytes] | None:
    """Status and body for a call that Azure would not take; None for one that it would."""
    if headers.get("api-key") != KEY:
        return 401, error("401", "Access denied due to invalid subscription key or wrong API endpoint.")
    if path != PATH:
        return 404, error("DeploymentNotFound", "The API deployment for this resource does not exist.")
    return None


class _Front(BaseHTTPRequestHandler):
    """Checks a call as Azure does, and hands it to the server behind."""

    behind: int

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if refused := refusal(self.path, dict(self.headers)):
            self._whole(*refused)
            return
        try:
            self._hand_on(body)
        except (BrokenPipeError, ConnectionResetError):
            return  # the client has hung up
        except OSError:
            self._whole(
                503, error("ServiceUnavailable", "The service is temporarily unable to process your request.")
            )

    def _hand_on(self, body: bytes) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.behind, timeout=TIMEOUT_S)
        try:
            connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                self._whole(response.status, response.read())
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(PROMPT_FILTERED + FILTER_AT)
            while piece := response.read1():
                self.wfile.write(piece)
        finally:
            connection.close()

    def _whole(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """pytest's output is not the place."""


@contextmanager
def fronting(port: int) -> Iterator[str]:
    """The address of an Azure before the server on that port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Front", (_Front,), {"behind": port}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
