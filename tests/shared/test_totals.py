"""Workers' counts on a real Redis: added up over processes, never twice, and honest about what is not known."""

from collections.abc import Callable, Iterator

import pytest

from shared.figures import Figures
from shared.settings import Settings
from shared.totals import KEY, WORKERS, Teller, Totals
from tests.servers import Redis

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
pytestmark = SQLITE
LOST = 'medq_swept_total{"action": "lost"}'


@pytest.fixture
def totals(settings: Callable[..., Settings]) -> Iterator[Totals]:
    opened = Totals(settings())
    yield opened
    opened.close()


@pytest.fixture
def teller(settings: Callable[..., Settings]) -> Iterator[Callable[..., tuple[Figures, Teller]]]:
    opened: list[Teller] = []

    def make(role: str = "sweeper") -> tuple[Figures, Teller]:
        figures = Figures()
        opened.append(Teller(settings(), figures, role))
        return figures, opened[-1]

    yield make
    for one in opened:
        one.close()


Make = Callable[..., tuple[Figures, Teller]]


def count(totals: Totals, field: str = LOST) -> float | None:
    told = totals.read()
    assert told is not None
    return told.totals.get(field)


def test_counts_of_all_processes_add_up_and_outlive_them(teller: Make, totals: Totals) -> None:
    (first, tell_first), (second, tell_second) = teller(), teller()
    first.swept.labels("lost").inc(2)
    tell_first.tell()
    first.swept.labels("lost").inc(1)
    tell_first.close()
    second.swept.labels("lost").inc(4)
    tell_second.tell()
    assert count(totals) == 7


def test_what_was_told_is_not_told_again(teller: Make, totals: Totals) -> None:
    figures, one = teller()
    figures.swept.labels("lost").inc()
    one.tell()
    one.tell()
    assert count(totals) == 1


def test_a_histogram_stays_one(teller: Make, totals: Totals) -> None:
    for seconds in (0.002, 0.3, 60):
        figures, one = teller("vision")
        figures.decode_seconds.observe(seconds)
        one.tell()
    told = totals.read()
    assert told is not None
    buckets = [value for field, value in told.totals.items() if "decode_seconds_bucket" in field]
    assert max(buckets) == told.totals["medq_decode_seconds_count{}"] == 3
    assert told.totals['medq_decode_seconds_bucket{"le": "0.0025"}'] == 1
    assert told.totals["medq_decode_seconds_sum{}"] == pytest.approx(60.302)


def test_while_redis_is_gone_counts_wait_and_nothing_is_made_up(
    teller: Make, totals: Totals, broker: Redis
) -> None:
    figures, one = teller()
    figures.swept.labels("lost").inc(3)
    broker.kill()
    one.tell()
    assert totals.read() is None
    broker.restart()
    one.tell()
    assert count(totals) == 3


def test_counts_that_a_frozen_redis_may_have_taken_are_not_told_twice(
    teller: Make, totals: Totals, broker: Redis
) -> None:
    figures, one = teller()
    one.tell()
    figures.swept.labels("lost").inc(3)
    with broker.frozen():
        one.tell()
        one.tell()
    one.tell()
    assert (count(totals) or 0) <= 3


def test_a_redis_that_forgot_everything_starts_again(teller: Make, totals: Totals, broker: Redis) -> None:
    figures, one = teller()
    figures.swept.labels("lost").inc(3)
    one.tell()
    broker.flush()
    figures.swept.labels("lost").inc(2)
    one.tell()
    assert count(totals) == 2


def test_workers_are_counted_while_they_speak_and_not_once_they_took_leave(
    teller: Make, totals: Totals, broker: Redis
) -> None:
    _, one = teller("vision")
    one.tell()
    broker.client().zadd(WORKERS, {"vision elsewhere:1": 1, "answer elsewhere:2": 2**40})
    told = totals.read()
    assert told is not None
    assert told.workers == {"vision": 1, "answer": 1, "archive": 0, "sweeper": 0}
    one.close()
    told = totals.read()
    assert told is not None
    assert told.workers["vision"] == 0


def test_what_is_no_number_is_left_out(teller: Make, totals: Totals, broker: Redis) -> None:
    broker.client().hset(KEY, mapping={LOST: "many", "medq_else_total{}": "1"})
    told = totals.read()
    assert told is not None
    assert told.totals == {"medq_else_total{}": 1.0}
