"""Pictures and devices that ruin a worker."""

import io
from collections import Counter

from PIL import Image

from tests.faults.people import PICTURES
from tests.faults.room import Room, grown

HEIGHT, WIDTH = 47, 61
MARK = b"\x08" + HEIGHT.to_bytes(2, "big") + WIDTH.to_bytes(2, "big")  # in the header of such a JPEG


def test_a_picture_that_kills_its_decoder(room: Room) -> None:
    """The worker dies with it and is replaced; it is tried once more apart, and then fails by itself."""
    room.sabotaged("crash", MARK.hex())
    file = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), "tan").save(file, "JPEG")
    deadly = file.getvalue()
    assert MARK in deadly
    assert not any(MARK in picture for picture in PICTURES)
    with room.met("picture kills its decoder", times=room.times) as meeting:
        for _ in range(room.times):
            jobs = room.people.ask_many(meeting.work, 1, picture=deadly)
            meeting.failing |= set(jobs)
            assert {job["error"]["type"] for job in jobs.values()} == {"/problems/image-failed"}
            meeting.recovered()
    assert meeting.evidence
    for name in meeting.failing:
        tried = Counter(one.outcome for one in meeting.evidence.attempts[name])
        assert tried == {"lose": 1, "fail": 1}


def test_out_of_memory_on_the_device(room: Room) -> None:
    """Large microbatches are halved until they fit; while not even one picture does, jobs wait and try again."""
    halved = grown(lambda: room.said("vision", "out_of_memory"))
    room.sabotaged("memory", 2)
    with room.met("device out of memory") as meeting:
        room.until(halved)
        room.sabotaged("memory", 0)
        room.until(lambda: meeting.so_far().outcomes()["retry"] > 0)
        room.sabotaged("memory")
        meeting.recovered()
    assert set(meeting.outcomes) == {"advance", "finish", "retry"}
