"""A blob store that takes nothing, or is not there at all."""

import psutil

from tests import processes
from tests.faults.room import Room

WRITERS = ("api", "vision", "archive")


def test_full(room: Room) -> None:
    """No file may grow: nothing is accepted that cannot be kept, what was accepted goes on."""
    writers = [one for role in WRITERS for one in processes.of(room.system, role)]
    with room.met("blob store full") as meeting:
        limits = [(one, one.rlimit(psutil.RLIMIT_FSIZE)) for one in writers]
        for one, (_, hard) in limits:
            one.rlimit(psutil.RLIMIT_FSIZE, (0, hard))
        room.pause(0.5)
        accepted = len(meeting.work.accepted)
        room.pause(1)
        refused = len(meeting.work.accepted) == accepted
        for one, limit in limits:
            one.rlimit(psutil.RLIMIT_FSIZE, limit)
        meeting.recovered()
    assert refused, "a job was accepted whose picture could not be stored"


def test_away(room: Room) -> None:
    """The folder is gone, as a mount that broke off: jobs wait until it is back."""
    blobs = room.settings.data_path / "blobs"
    gone = blobs.with_name("blobs.gone")
    with room.met("blob store away") as meeting:
        blobs.rename(gone)
        blobs.write_text("not a folder")
        room.pause(1.5)
        blobs.unlink()
        gone.rename(blobs)
        meeting.recovered()
    assert set(meeting.outcomes) <= {"advance", "finish", "retry"}
