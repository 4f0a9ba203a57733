"""Flower on a real broker: what it shows to whom, and what it lets nobody do."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import httpx
import psutil
import pytest

from shared.settings import ROOT, Settings, environment_with
from tests.servers import Redis, free_port

PASSWORD = "a,long:password of Flower"
PAGES = ("/", "/workers", "/tasks", "/broker", "/metrics", "/api/workers", "/api/tasks", "/api/queues/length")
LEVERS = ("worker/shutdown/x", "worker/pool/grow/x", "task/revoke/x", "task/send-task/x", "task/abort/x")


@contextmanager
def flower(redis: Redis, **chosen: str) -> Iterator[tuple[str, psutil.Process]]:
    settings = replace(Settings(), broker_url=redis.tcp_url, flower_port=free_port(), **chosen)  # type: ignore[arg-type]
    child = subprocess.Popen(
        [sys.executable, "-m", "deploy.flower"],
        cwd=ROOT,
        env=environment_with(settings.as_environment()),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{settings.flower_port}"
    try:
        await_answer(f"{url}/healthcheck", child)
        yield url, psutil.Process(child.pid)
    finally:
        child.terminate()
        child.wait(60)


def await_answer(url: str, child: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 60
    while True:
        try:
            httpx.get(url, timeout=60)
            return
        except httpx.TransportError:
            if child.poll() is not None or time.monotonic() > until:
                raise
            time.sleep(0.05)


@pytest.fixture(scope="module")
def shown(redis_server: Redis) -> Iterator[tuple[str, psutil.Process]]:
    redis_server.restore()
    with flower(redis_server, flower_host="0.0.0.0", flower_password=PASSWORD) as running:
        yield running


@pytest.mark.parametrize("page", PAGES)
def test_beyond_loopback_every_page_asks_for_the_password(
    shown: tuple[str, psutil.Process], page: str
) -> None:
    url = shown[0] + page
    assert httpx.get(url, timeout=60).status_code == 401
    assert httpx.get(url, auth=("medq", "a"), timeout=60).status_code == 401
    assert httpx.get(url, auth=("medq", PASSWORD), timeout=60).status_code == 200


@pytest.mark.parametrize("lever", LEVERS)
def test_beyond_loopback_nobody_moves_anything(shown: tuple[str, psutil.Process], lever: str) -> None:
    url = f"{shown[0]}/api/{lever}"
    assert httpx.post(url, timeout=60).status_code == 401
    assert httpx.post(url, auth=("medq", PASSWORD), timeout=60).status_code == 403


def test_no_password_stands_in_a_command_line(shown: tuple[str, psutil.Process], redis_server: Redis) -> None:
    line = " ".join(shown[1].cmdline())
    assert PASSWORD not in line
    assert redis_server.tcp_url not in line


def test_on_loopback_pages_are_open_and_levers_are_not(redis_server: Redis) -> None:
    redis_server.restore()
    with flower(redis_server) as (url, _):
        for page in ("/workers", "/metrics"):
            assert httpx.get(url + page, timeout=60).status_code == 200
        for lever in LEVERS:
            assert httpx.post(f"{url}/api/{lever}", timeout=60).status_code == 401
