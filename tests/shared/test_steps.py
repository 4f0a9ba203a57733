import pytest

from shared.errors import ImageFailed
from shared.steps import MOST, Step, current, kept, step


def test_a_step_is_kept_with_its_times_and_what_was_told_of_it() -> None:
    steps: list[Step] = []
    with kept(steps):
        assert current() is steps
        with step("decode") as told:
            told["medq.frames"] = 3
    (one,) = steps
    assert (one.name, one.attributes, one.error) == ("decode", {"medq.frames": 3}, None)
    assert one.began_ns <= one.ended_ns
    assert current() is None


def test_what_goes_wrong_is_named_and_goes_on() -> None:
    steps: list[Step] = []
    for error in (ImageFailed("secret words"), ZeroDivisionError("secret words")):
        with kept(steps), pytest.raises(type(error)), step("decode"):
            raise error
    assert [one.error for one in steps] == ["image-failed", "ZeroDivisionError"]
    assert "secret" not in str(steps)


def test_nothing_is_kept_where_nobody_wants_to_know() -> None:
    steps: list[Step] = []
    with kept(steps), kept(None), step("decode"):
        assert current() is None
    assert steps == []


def test_an_attempt_keeps_so_many_and_no_more() -> None:
    steps: list[Step] = []
    with kept(steps):
        for _ in range(MOST + 5):
            with step("forward"):
                pass
    assert len(steps) == MOST
