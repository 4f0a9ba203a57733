"""An API that dies at the worst moments of a submit."""

import base64
import contextlib
import hashlib
import time
from collections.abc import Iterator

import httpx
from sqlalchemy import select

from shared.tables import BatchRow
from tests import processes
from tests.faults.people import study
from tests.faults.room import Room

TUS = {"Tus-Resumable": "1.0.0"}


def test_killed_between_commit_and_dispatch(room: Room) -> None:
    """The row is there and no message: the sweeper delivers it, and the client that asks again gets that job."""
    with room.met("API killed before its dispatch", times=room.times) as meeting:
        for _ in range(room.times):
            killed = [one.pid for one in processes.of(room.system, "api")]
            room.sabotaged("dispatch", "vision")
            processes.await_other(room.system, "api", killed)
            meeting.recovered()
    assert set(meeting.outcomes) == {"advance", "finish"}


def test_killed_in_the_middle_of_an_upload(room: Room) -> None:
    """What arrived is kept; the client goes on behind it, and the batch has the archive's bytes."""
    with room.met("API killed during an upload", times=room.times) as meeting:
        for _ in range(room.times):
            names = [meeting.work.new_name() for _ in range(8)]
            archive = study(names)
            batch = _uploaded(room, archive)
            meeting.work.promised(names)
            room.people.ended(batch["urls"]["self"])
            kept = room.db.read(lambda s, id=batch["id"]: s.scalar(select(BatchRow).where(BatchRow.id == id)))
            assert kept
            assert (kept.size_bytes, kept.sha256) == (len(archive), hashlib.sha256(archive).hexdigest())
            meeting.recovered()


def _uploaded(room: Room, archive: bytes) -> dict[str, str]:
    """By tus, with a server that dies while the body is on its way."""
    name = base64.b64encode(b"study.zip").decode()
    made = httpx.post(
        f"{room.system.url}/v1/uploads",
        headers=TUS | {"Upload-Length": str(len(archive)), "Upload-Metadata": f"filename {name}"},
        timeout=30,
    )
    url = room.system.url + made.headers["Location"]
    half = len(archive) // 2

    def slowly() -> Iterator[bytes]:
        yield archive[:half]
        room.kill("api")
        yield archive[half:]

    with contextlib.suppress(httpx.TransportError):
        httpx.patch(url, content=slowly(), headers=_piece(0, len(archive)), timeout=30)
    while (offset := _offset(url)) < len(archive):
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.patch(
                url, content=archive[offset:], headers=_piece(offset, len(archive)), timeout=30
            )
            if answer.status_code == 423:  # the dead one's lock runs out
                time.sleep(0.5)
    return room.people.accepted("/v1/batches", {}, {"upload_id": (None, url.rpartition("/")[2])})


def _piece(offset: int, size: int) -> dict[str, str]:
    kind = {"Content-Type": "application/offset+octet-stream", "Content-Length": str(size - offset)}
    return TUS | kind | {"Upload-Offset": str(offset)}


def _offset(url: str) -> int:
    """How far the server has come, once it answers."""
    with contextlib.suppress(httpx.TransportError):
        return int(httpx.head(url, headers=TUS, timeout=30).headers.get("Upload-Offset", 0))
    time.sleep(0.1)
    return _offset(url)
