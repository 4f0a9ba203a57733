"""Ids sort by the time they were made."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

from shared.ids import id_at, new_id


def test_an_id_is_a_uuid_of_version_7_in_its_usual_spelling() -> None:
    made = new_id()
    assert uuid.UUID(made).version == 7
    assert str(uuid.UUID(made)) == made


def test_ids_sort_by_the_time_they_were_made() -> None:
    made = []
    for _ in range(20):
        made.append(new_id())
        time.sleep(0.002)
    assert made == sorted(made)


def test_an_id_holds_the_time_in_milliseconds() -> None:
    before = time.time_ns() // 1_000_000
    stamp = uuid.UUID(new_id()).int >> 80
    assert before <= stamp <= time.time_ns() // 1_000_000


def test_threads_never_share_an_id() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: new_id(), range(4000)))
    assert len(set(made)) == 4000


def test_a_time_parts_the_ids_before_it_from_those_after() -> None:
    before = new_id()
    time.sleep(0.002)
    moment = id_at(time.time_ns() // 1000)
    time.sleep(0.002)
    assert before < moment < new_id()
    assert id_at(-1) < before < id_at(2**63)
