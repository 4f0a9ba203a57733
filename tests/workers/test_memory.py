"""The allocator's settings are there before torch is, and do not start the process for ever."""

import subprocess
import sys
from pathlib import Path

from shared.settings import ROOT, environment_with
from workers.memory import TUNED

SCRIPT = """
import os, sys
from workers.memory import TUNED, keep_memory
print("start", os.getpid(), flush=True)
keep_memory("again")
print("run", os.getpid(), sys.argv[1:], {name: os.environ[name] for name in TUNED})
"""


def test_a_process_starts_again_once_with_its_arguments_and_its_id(tmp_path: Path) -> None:
    (tmp_path / "again.py").write_text(SCRIPT)
    environment = {name: value for name, value in environment_with({}).items() if name not in TUNED}
    environment |= {"PYTHONPATH": f"{tmp_path}:{ROOT}", "MALLOC_ARENA_MAX": "2"}  # somebody's own choice
    done = subprocess.run(
        [sys.executable, "-m", "again", "vision"], env=environment, capture_output=True, text=True, check=True
    )
    lines = [line.split(" ", 2) for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == ["start", "start", "run"]
    assert len({line[1] for line in lines}) == 1
    assert lines[-1][2] == str(["vision"]) + " " + str(TUNED | {"MALLOC_ARENA_MAX": "2"})
