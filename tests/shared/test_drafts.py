"""How much a language model has written is told now and then, and read back by attempt."""

from shared.drafts import COUNT_PAUSE_S, Written
from shared.queue import Hints
from shared.settings import Settings
from tests.servers import Redis


class Counts:
    def __init__(self) -> None:
        self.told: list[tuple[str, int, int]] = []

    def keep_written(self, job_id: str, attempt: int, characters: int) -> None:
        self.told.append((job_id, attempt, characters))


def test_what_is_new_is_told_once_a_second_and_never_a_word_of_it() -> None:
    now, hints, answers = 100.0, Counts(), iter([False, False, False, False, True])
    written = Written(hints, "j", 2, clock=lambda: now)  # type: ignore[arg-type]
    stop = written.telling(lambda: next(answers))
    assert not stop()  # nothing is written yet
    written.count("It may ")
    assert not stop()
    written.count("be")
    assert not stop()  # too soon
    now += COUNT_PAUSE_S
    assert not stop()
    now += COUNT_PAUSE_S
    assert stop()  # nothing new
    assert hints.told == [("j", 2, 7), ("j", 2, 9)]


def test_a_count_is_read_by_its_own_attempt_and_forgotten_with_the_draft(broker: Redis) -> None:
    hints = Hints(Settings(broker_url=broker.url))
    assert hints.written("j", 1) == 0
    hints.keep_written("j", 1, 620)
    assert (hints.written("j", 1), hints.written("j", 2)) == (620, 0)
    assert hints.draft("j", 1) == ""
    hints.forget_draft("j")
    assert hints.written("j", 1) == 0
    hints.close()
