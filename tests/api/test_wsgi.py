import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from shared.settings import Settings, environment_with
from tests.api.driving import JPEG, ONE_DATABASE
from tests.servers import free_port


def test_the_api_loads_neither_torch_nor_workers() -> None:
    code = (
        "import sys, api.wsgi; "
        "print([name for name in sys.modules if name.split('.')[0] in ('torch', 'timm', 'workers', 'training')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@contextmanager
def served(settings: Settings) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """The API as `make run` serves it; the caller may stop it."""
    port = free_port()
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--factory", "api.wsgi:create"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--blocking-threads", str(settings.api_threads)]
    process = subprocess.Popen(command, env=environment_with(settings.as_environment()))
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: httpx.get(f"{url}/healthz").status_code == 200)
        yield url, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def wait_for(ready: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if ready():
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise TimeoutError


@pytest.mark.slow
@ONE_DATABASE
def test_granian_serves_uploads_waits_and_stops_at_once(configured: Callable[..., Settings]) -> None:
    with served(configured()) as (url, process):
        job = httpx.post(f"{url}/v1/jobs", files={"image": ("a.jpg", JPEG)}).json()
        assert httpx.get(url + job["artifacts"]["image"]).headers["content-type"] == "image/jpeg"
        big = httpx.post(f"{url}/v1/jobs", files={"image": ("a.jpg", JPEG + b"x" * 30_000_000)})
        assert (big.status_code, big.json()["type"]) == (413, "/problems/upload-too-large")
        answers: list[Any] = []
        waiting = threading.Thread(
            target=lambda: answers.append(httpx.get(f"{url}{job['urls']['self']}?wait=60", timeout=70))
        )
        waiting.start()
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGTERM)
        started = time.monotonic()
        process.wait(20)
        waiting.join(20)
        assert time.monotonic() - started < 5
        assert [answer.status_code for answer in answers] == [200]
