"""Every hostile file at hand ends as a picture within limits or as a RequestError, in bounded time and memory.

They are judged in a child process under a limit on its memory, so that a decoder that crashes, hangs or grows
fails this test and not the run; the child is this module, started as a program.
"""

import json
import resource
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import RequestError
from shared.images import Limits, decode, inspect, sanitise
from tests.shared_data import shared_data

MEMORY_BYTES = 2 * 2**30  # of address space, of which the imports alone take most of one
CPU_SECONDS_PER_FILE = 30  # most take milliseconds; a bomb takes minutes
LIMITS = Limits()


def pieces(source: Path) -> Iterator[tuple[str, bytes]]:
    if source.is_dir():
        yield from ((path.name, path.read_bytes()) for path in sorted(source.iterdir()))
        return
    with zipfile.ZipFile(source) as archive:
        yield from ((name, archive.read(name)) for name in archive.namelist() if not name.endswith("/"))


def outcome(data: bytes) -> str:
    """`array`, the RequestError's name, or what is wrong."""
    try:
        stored = sanitise(data, LIMITS)
    except RequestError as error:
        stored = b""
        if error.status >= 500:
            return f"wrong: {error!r}"
    try:
        array = decode(data, LIMITS)
    except RequestError as error:
        return type(error).__name__
    info = inspect(data, LIMITS)
    if (info.height, info.width) != array.shape[:2] or array.shape[2] != 3:
        return f"wrong: {info} but {array.shape}"
    if not stored or (decode(stored, LIMITS) != array).any() or sanitise(stored, LIMITS) != stored:
        return "wrong: not the same when stored"
    return "array"


def judge(source: Path) -> None:
    for name, data in pieces(source):
        print(json.dumps([name, "started", 0]), flush=True)
        began = time.process_time()
        try:
            result = outcome(data)
        except BaseException as error:
            result = f"wrong: {error!r}"
        print(json.dumps([name, result, time.process_time() - began]), flush=True)


def results(source: Path) -> dict[str, str]:
    child = subprocess.run(
        [sys.executable, "-m", "tests.shared.test_images_hostile", str(source)],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    lines = [json.loads(line) for line in child.stdout.splitlines()]
    assert child.returncode == 0, f"died at {lines[-1:]}: {child.stderr[-2000:]}"
    slow = [line for line in lines if line[2] > CPU_SECONDS_PER_FILE]
    assert not slow
    return {name: result for name, result, _ in lines}


@pytest.mark.parametrize("parts", [("hostile", "images_broken.zip"), ("dicom",)])
def test_every_hostile_file_is_a_picture_or_a_clear_refusal(parts: tuple[str, ...]) -> None:
    source = shared_data(*parts)
    found = results(source)
    assert len(found) == len(list(pieces(source)))
    assert not {name: result for name, result in found.items() if result.startswith(("wrong", "started"))}
    assert "array" in found.values()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    judge(Path(sys.argv[1]))
