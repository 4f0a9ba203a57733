"""The bulk window on both databases: how much is under way, whose turn it is, and that nobody overfills it."""

import threading
from collections import Counter
from collections.abc import Sequence

from sqlalchemy import update

from shared import batches, jobs, window
from shared.batches import NewBatch
from shared.database import Database
from shared.ids import new_id
from shared.job_types import Outcome
from shared.lifecycle import Event
from shared.tables import JobRow
from tests.shared.test_batches import new_jobs


def batch(database: Database, count: int, owner: str = "", **columns: object) -> str:
    batch_id = new_id()
    assert batches.create(database, NewBatch(batch_id, owner=owner), 30)
    row = batches.claim(database, batch_id, lease_s=30, max_attempts=3)
    assert row is not None
    new = new_jobs(batch_id, range(count), **columns)
    batches.accept(database, batch_id, row.claim_id or "", new, [], count)
    return batch_id


def fill(
    database: Database, size: int = 3, stage: str = "vision", redispatch_s: float = 30
) -> list[list[str]]:
    return window.fill(database, stage, "all" if stage == "answer" else "skin", size, redispatch_s)


def end(database: Database, ids: Sequence[str], event: Event = Event.FINISH, stage: str = "vision") -> None:
    held = jobs.claim(database, ids, stage, "w", lease_s=30, limit_s=60)
    following = "answer" if event is Event.ADVANCE else None
    outcomes = [Outcome(job.id, held.id, event, stage=following, lane="bulk") for job in held.jobs]
    jobs.record(database, outcomes, max_attempts=3, redispatch_s=30)


def owners(database: Database, messages: list[list[str]]) -> list[str]:
    """The batch of each message; none is mixed."""

    def look(ids: list[str]) -> str:
        found = database.read(lambda s: {s.get_one(JobRow, one).batch_id for one in ids})
        assert len(found) == 1
        return found.pop() or ""

    return [look(ids) for ids in messages]


def test_only_a_window_of_messages_is_under_way(database: Database) -> None:
    batch(database, 300)
    first = fill(database)
    assert [len(ids) for ids in first] == [64, 64, 64]
    assert [one for ids in first for one in ids] == sorted(one for ids in first for one in ids)
    assert fill(database) == []
    end(database, first[0])
    (second,) = fill(database)
    assert len(second) == 64
    assert not set(second) & {one for ids in first for one in ids}


def test_messages_that_workers_hold_are_under_way(database: Database) -> None:
    batch(database, 300)
    first = fill(database)
    jobs.claim(database, first[0], "vision", "w", lease_s=30, limit_s=60)
    assert fill(database) == []
    assert len(fill(database, 4)) == 1


def test_the_last_message_holds_what_is_left(database: Database) -> None:
    batch(database, 70)
    assert [len(ids) for ids in fill(database)] == [64, 6]


def test_a_message_that_seems_lost_goes_back_in_line(database: Database) -> None:
    batch(database, 10)
    (first,) = fill(database)
    assert fill(database) == []
    database.write(lambda s: s.execute(update(JobRow).values(due_at=1)))  # half a minute later
    (again,) = fill(database, redispatch_s=30)
    assert again == first
    assert fill(database) == []


def test_what_the_broker_did_not_take_is_in_line_again(database: Database) -> None:
    batch(database, 10)
    (first,) = fill(database)
    window.put_back(database, first)
    assert fill(database) == [first]


def test_a_job_that_pauses_before_a_retry_is_neither_in_line_nor_under_way(database: Database) -> None:
    batch(database, 1)
    (ids,) = fill(database, 1)
    held = jobs.claim(database, ids, "vision", "w", lease_s=30, limit_s=60)
    jobs.record(
        database,
        [Outcome(ids[0], held.id, Event.RETRY, lane="bulk", pause_s=60)],
        max_attempts=3,
        redispatch_s=30,
    )
    assert fill(database, 1) == []
    batch(database, 1)
    assert len(fill(database, 1)) == 1


def test_a_job_that_was_lost_goes_alone(database: Database) -> None:
    batch(database, 5)
    (ids,) = fill(database)
    jobs.claim(database, ids[:2], "vision", "dead", lease_s=0, limit_s=60)
    jobs.reap(database, 3)
    window.put_back(database, ids[2:])
    assert sorted(map(len, fill(database, 10))) == [1, 1, 3]


def test_two_owners_share_the_window_whatever_they_sent(database: Database) -> None:
    big = [batch(database, 200, "hospital") for _ in range(3)]
    small = batch(database, 200, "student")
    served = owners(database, fill(database, 6))
    assert Counter(served)[small] == 3
    assert {one for one in served if one != small} == set(big)


def test_turns_are_kept_between_fills(database: Database) -> None:
    two = [batch(database, 200) for _ in range(2)]
    served = []
    for _ in range(4):
        messages = fill(database, 1)
        served += owners(database, messages)
        end(database, messages[0])
    assert served == [two[0], two[1], two[0], two[1]]


def test_every_answer_has_a_message_of_its_own(database: Database) -> None:
    batch(database, 10, answered=True)
    (ids,) = fill(database)
    end(database, ids, Event.ADVANCE)
    assert [len(one) for one in fill(database, 4, "answer")] == [1, 1, 1, 1]
    assert fill(database, 4, "answer") == []


def test_answers_that_share_a_claim_each_hold_a_thread(database: Database) -> None:
    batch(database, 10, answered=True)
    (ids,) = fill(database)
    end(database, ids, Event.ADVANCE)
    sent = [one for message in fill(database, 3, "answer") for one in message]
    assert len(jobs.claim(database, sent, "answer", "w", lease_s=30, limit_s=60).jobs) == 3
    assert fill(database, 3, "answer") == []


def test_people_and_canceled_batches_are_not_in_line(database: Database, job_factory) -> None:
    job_factory(redispatch_s=0)
    batch_id = batch(database, 5)
    assert batches.cancel(database, batch_id)
    assert fill(database) == []


def test_the_sweepers_look_leaves_archives_to_the_window(database: Database, job_factory) -> None:
    batch(database, 5)
    person = job_factory(redispatch_s=0).id
    assert [row.id for row in jobs.due(database, 30)] == [person]


def test_eight_who_fill_at_once_send_a_window_and_no_more(database: Database) -> None:
    batch(database, 1000)
    sent: list[list[str]] = []
    lock = threading.Lock()

    def work() -> None:
        for _ in range(5):
            messages = fill(database, 4)
            with lock:
                sent.extend(messages)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sent) == 4
    assert len({one for ids in sent for one in ids}) == 256


def test_a_deadline_that_has_passed_is_left_to_the_sweeper(database: Database) -> None:
    batch_id = batch(database, 2)
    late = (JobRow.batch_id == batch_id, JobRow.entry == 0)
    database.write(lambda s: s.execute(update(JobRow).where(*late).values(deadline_at=1)))
    assert [len(ids) for ids in fill(database)] == [1]
