"""Processes that die while they are busy."""

import random
import signal
import subprocess
import sys

from shared.settings import ROOT, environment_with
from tests import processes
from tests.faults.room import Room

PAUSE_S = 1.0  # at most between two kills


def test_sigkill(room: Room, role: str) -> None:
    """Wherever it is in its work; the process manager starts it again."""
    rng = random.Random(role)
    room.sabotaged("slow", 0.05)  # so that a kill finds somebody at work
    with room.met(f"SIGKILL of {role}", times=room.kills) as meeting:
        for _ in range(room.kills):
            room.pause(rng.uniform(0, PAUSE_S))
            room.kill(role)
            meeting.recovered()
    assert set(meeting.outcomes) <= {"advance", "finish", "lose"}


def test_two_sweepers(room: Room) -> None:
    """Both send what a broker forgets again and again; nobody is claimed twice."""
    command = [sys.executable, "-m", "workers.app", "sweeper"]
    environment = environment_with(room.settings.as_environment())
    with room.met("two sweepers", times=room.times) as meeting:
        second = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        for _ in range(2 * room.times):
            room.redis.flush()
            meeting.recovered()
        assert second.poll() is None
        second.terminate()
        second.wait()
    assert set(meeting.outcomes) == {"advance", "finish"}


def test_sigterm(room: Room) -> None:
    """Everybody at once, under load: what can be finished is, the rest is given back, nobody is lost."""
    room.sabotaged("slow", 0.05)
    with room.met("SIGTERM of all workers", times=room.times) as meeting:
        for _ in range(room.times):
            killed = {
                role: processes.kill(room.system, role, signal.SIGTERM)
                for role in ("vision", "answer", "archive")
            }
            for role, ids in killed.items():
                processes.await_other(room.system, role, ids)
            meeting.recovered()
    assert set(meeting.outcomes) <= {"advance", "finish", "release"}
