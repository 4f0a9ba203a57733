"""An archive worker that is killed again and again: no entry is lost, none is doubled."""

import hashlib
import io
import random
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from PIL import Image

from shared.settings import ROOT, environment_with
from tests.packing import packed
from tests.workers.conftest import Desk

ENTRIES, KILLS = 400, 6


def small_picture(number: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 16), (number % 256, number // 256, 7)).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("kind", ["zip", "tar.zst"])
def test_killed_at_any_entry_it_goes_on_at_its_checkpoint(desk: Callable[..., Desk], kind: str) -> None:
    room = desk(archive_group=3, lease_s=1.0)
    files = {f"{number:04}.png": small_picture(number) for number in range(ENTRIES)}
    files["0100.png"] = b"no picture"
    manifest = "filename,custom_id\n" + "".join(f"{name},id {name}\n" for name in files) + "gone.png,x\n"
    batch_id = room.hand_in(packed(kind, files | {"manifest.csv": manifest.encode()}))
    rng = random.Random(kind)
    for kill in range(1, KILLS + 1):
        worker = start(room, batch_id)
        wait_for(lambda least=kill * ENTRIES // (KILLS + 1): room.batch(batch_id).entry >= least)
        time.sleep(rng.uniform(0, 0.03))  # anywhere between two checkpoints
        worker.kill()
        worker.wait()
        assert room.batch(batch_id).status == "receiving"
    assert start(room, batch_id).wait(120) == 0
    row, jobs = room.batch(batch_id), room.jobs(batch_id)
    assert (row.status, row.error_slug) == ("running", None)
    assert (row.accepted, row.rejected, row.entries) == (ENTRIES - 1, 2, ENTRIES)
    assert [job.entry for job in jobs] == [number for number in range(ENTRIES) if number != 100]
    assert [job.custom_id for job in jobs] == [f"id {job.entry_name}" for job in jobs]
    for job in jobs:
        data = files[job.entry_name or ""]
        assert job.sha256 == hashlib.sha256(data).hexdigest()
        assert room.storage.get(f"{job.id}/image")
    assert room.problems(batch_id) == {"0100.png": "unsupported-image", "gone.png": "not-found"}
    blobs = room.settings.data_path / "blobs"
    assert len(list(blobs.glob("*/*/image"))) == ENTRIES - 1  # nothing was left behind


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.002)


def start(room: Desk, batch_id: str) -> "subprocess.Popen[bytes]":
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.workers.read_batch", batch_id],
        cwd=ROOT,
        env=environment_with(room.settings.as_environment()),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert worker.stdout
    with worker.stdout:
        assert worker.stdout.readline() == b"ready\n"
    return worker
