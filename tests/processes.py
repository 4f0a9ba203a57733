"""The processes of a running system, found by what they do, so that a test can kill one of them."""

import contextlib
import signal
import time

import psutil

from deploy.run import System

# What stands in a command line, and what that process is
WORDS = {"granian": "api", "redis-server": "redis", "flower": "flower"} | {
    f"workers.app {role}": role for role in ("vision", "answer", "archive", "sweeper")
}


def component(command: list[str]) -> str:
    line = " ".join(command)
    return next((name for word, name in WORDS.items() if word in line), "other")


def of(system: System, role: str) -> list[psutil.Process]:
    """The processes of a role below the process manager, parents before their children."""
    found = []
    for child in psutil.Process(system.supervisor.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if component(child.cmdline()) == role and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
    return found


def kill(system: System, role: str, number: int = signal.SIGKILL) -> list[int]:
    """Send a signal to every process of a role; the ids of those that got it."""
    killed = []
    for process in of(system, role):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
            killed.append(process.pid)
    return killed


def await_other(system: System, role: str, killed: list[int], timeout_s: float = 300.0) -> None:
    """Wait until the process manager has started a role again, and none of the old processes is left.

    Raises: TimeoutError
    """
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        now = [process.pid for process in of(system, role)]
        if now and not set(now) & set(killed) and not any(map(psutil.pid_exists, killed)):
            return
        time.sleep(0.05)
    raise TimeoutError(f"{role} did not come back after {timeout_s:.0f} s")
