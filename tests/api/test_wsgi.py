import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from api.client import Client
from shared.settings import Settings, environment_with
from tests.api.batching import zipped
from tests.api.breaking import Wire
from tests.api.driving import JPEG, ONE_DATABASE, later
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
    settings = replace(settings, port=port)
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--factory", "api.wsgi:create"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--blocking-threads", str(settings.api_threads)]
    process = subprocess.Popen(command, env=environment_with(settings.as_environment()))
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: httpx.get(f"{url}/healthz", timeout=60).status_code == 200)
        yield url, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def posted(url: str, image: bytes = JPEG) -> httpx.Response:
    return httpx.post(f"{url}/v1/jobs", files={"image": ("a.jpg", image)}, timeout=60)


def wait_for(ready: Callable[[], bool], seconds: float = 60) -> None:
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
    with served(configured(api_threads=4)) as (url, process):  # two of them may wait
        job = posted(url).json()
        picture = httpx.get(url + job["artifacts"]["image"], timeout=60)
        assert picture.headers["content-type"] == "image/jpeg"
        big = posted(url, JPEG + b"x" * 30_000_000)
        assert (big.status_code, big.json()["type"]) == (413, "/problems/upload-too-large")
        look = f"{url}{job['urls']['self']}?wait="

        def wait() -> int:
            while (status := httpx.get(f"{look}60", timeout=120).status_code) == 503:
                pass  # the probe below had the place
            return status

        with httpx.stream("GET", url + job["urls"]["events"], timeout=120) as events:
            lines = events.iter_lines()
            first = next(lines)
            waiting = later(wait)
            wait_for(lambda: httpx.get(f"{look}0.01", timeout=60).status_code == 503)
            os.kill(process.pid, signal.SIGTERM)
            rest = list(lines)  # the stream of a job that goes on ends with the server alone
        assert waiting.result() == 200
        assert process.wait(60) == 0
        assert any("event: status" in line for line in [first, *rest])
        assert not any("event: completed" in line for line in rest)


@pytest.mark.slow
@ONE_DATABASE
def test_granian_streams_archives_and_keeps_what_a_broken_wire_brought(
    configured: Callable[..., Settings], tmp_path: Path
) -> None:
    archive = tmp_path / "big.zip"
    archive.write_bytes(zipped({"noise.bin": bytes(256 * 2**20)}))
    with served(configured()) as (url, process):
        before = memory_kb(process.pid)
        with archive.open("rb") as file:
            made = httpx.post(f"{url}/v1/batches", files={"archive": ("a.zip", file)}, timeout=240)
        assert (made.status_code, made.json()["size_bytes"]) == (202, archive.stat().st_size)
        with Wire(int(url.rpartition(":")[2]), [20_000_000, 30_000_000]) as wire, Client(wire.url) as client:
            seen: list[int] = []
            batch = client.batch(archive, report=seen.append)
            assert wire.broken == 2
        assert batch.size_bytes == archive.stat().st_size
        assert [size for size in seen if size == 0] == [0]  # it began once
        assert memory_kb(process.pid) - before < 64 * 1024


@pytest.mark.slow
@ONE_DATABASE
def test_a_worker_ends_with_its_parent(configured: Callable[..., Settings]) -> None:
    with served(configured()) as (_, process):
        workers = psutil.Process(process.pid).children(recursive=True)
        assert workers
        process.kill()
        process.wait()
        wait_for(lambda: not any(map(alive, workers)))


def alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
@ONE_DATABASE
def test_half_open_uploads_leave_threads_for_everybody_else(configured: Callable[..., Settings]) -> None:
    with served(configured(api_threads=12)) as (url, _), ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(closing(half_open(url)))
        assert httpx.get(f"{url}/healthz", timeout=60).status_code == 200
        refused = posted(url)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["type"] == "/problems/service-unavailable"
        stack.close()
        wait_for(lambda: posted(url).status_code == 202)


def half_open(url: str) -> socket.socket:
    """A request that stops in the middle of its body."""
    host, port = url.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)))
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100000\r\n"
    client.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n".encode())
    return client


def memory_kb(pid: int) -> int:
    """The most that the server's processes ever held."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    texts = [Path(f"/proc/{one.pid}/status").read_text() for one in family]
    return sum(int(line.split()[1]) for text in texts for line in text.splitlines() if "VmHWM" in line)
