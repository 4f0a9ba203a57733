"""A language model that refuses, fails, talks garbage, breaks off or falls silent."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.room import Room

FAULTS = ("429", "500", "half", "garbage", "silent")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One after the other in the long form, all at once in the short one."""
    long = metafunc.config.getoption("--long")
    groups = [(fault,) for fault in FAULTS] if long else [FAULTS]
    metafunc.parametrize("faults", groups, ids=["-".join(group) for group in groups])


def test_it_comes_round(room: Room, faults: tuple[str, ...]) -> None:
    """Calls fail at first: every job ends with an answer, the model's or, past MEDQ_ANSWER_WAIT_S, the reference's."""
    with room.met(f"language model: {', '.join(faults)}") as meeting:
        each = 40 if room.long else 3
        with ThreadPoolExecutor(len(faults)) as pool:
            asked = [pool.submit(room.people.ask_many, meeting.work, each, f"lm-{one}-2") for one in faults]
        jobs = {name: job for many in asked for name, job in many.result().items()}
        meeting.recovered()
    assert meeting.evidence
    assert len(jobs) == each * len(faults)
    for name, job in jobs.items():
        assert job["status"] == "succeeded", name
        assert job["answer"]["source"] in ("language_model", "reference")
        outcomes = [one.outcome for one in meeting.evidence.attempts[name] if one.stage == "answer"]
        assert outcomes[-1] == "finish"
        assert set(outcomes[:-1]) <= {"retry", "release"}  # a model that is away charges no attempt
        assert room.language_model.calls[name] <= len(outcomes)
