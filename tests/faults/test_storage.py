"""A blob store that takes nothing, or is not there at all."""

from pathlib import Path

import httpx
import psutil

from tests import processes
from tests.faults.people import PICTURES
from tests.faults.room import Room

WRITERS = ("api", "vision", "archive")


def test_full(room: Room) -> None:
    """No file may grow: nothing is accepted that cannot be kept, what was accepted goes on."""
    writers = [one for role in WRITERS for one in processes.of(room.system, role)]
    with room.met("blob store full") as meeting:
        limits = [(one, one.rlimit(psutil.RLIMIT_FSIZE)) for one in writers]
        for one, (_, hard) in limits:
            one.rlimit(psutil.RLIMIT_FSIZE, (0, hard))
        image = {"image": ("a.jpg", PICTURES[0])}
        answer = httpx.post(f"{room.system.url}/v1/jobs", files=image, timeout=60)
        room.pause(1)
        for one, limit in limits:
            one.rlimit(psutil.RLIMIT_FSIZE, limit)
        meeting.recovered()
    assert answer.status_code == 503, "a job was accepted whose picture could not be stored"


def test_away(room: Room, tmp_path: Path) -> None:
    """The folder is gone, as a mount that broke off: jobs wait until it is back."""
    blobs = room.settings.data_path / "blobs"
    folder, no_folder = blobs.readlink(), tmp_path / "file"
    no_folder.touch()
    with room.met("blob store away") as meeting:
        lead(blobs, no_folder)
        room.pause(1.5)
        lead(blobs, folder)
        meeting.recovered()
    assert set(meeting.outcomes) <= {"advance", "finish", "retry"}


def lead(link: Path, target: Path) -> None:
    """In one step, so that nobody finds nothing there and makes a folder in its place."""
    new = link.with_suffix(".new")
    new.symlink_to(target)
    new.replace(link)
