"""Restates the life of a job."""

from typing import get_args

import pytest

from shared.lifecycle import TERMINAL, TRANSITIONS, Event, Status, first_stage, next_stage, sources, target
from shared.schemas import JobStatus

TABLE = """
queued  claim   running
queued  cancel  canceled
queued  expire  expired
running advance queued
running finish  succeeded
running fail    failed
running retry   queued
running lose    queued
running release queued
running cancel  canceled
running expire  expired
"""


def test_the_life_of_a_job() -> None:
    rows = {(status, event, to) for status, event, to in map(str.split, TABLE.split("\n")[1:-1])}
    assert rows == {(status.value, event.value, to.value) for (status, event), to in TRANSITIONS.items()}


def test_an_ended_job_never_moves_again() -> None:
    assert {"succeeded", "failed", "canceled", "expired"} == TERMINAL
    assert not {status for status, _ in TRANSITIONS} & TERMINAL


@pytest.mark.parametrize("event", Event)
def test_every_event_moves_something_and_leads_to_one_status(event: Event) -> None:
    assert sources(event)
    assert {to for (_, known), to in TRANSITIONS.items() if known is event} == {target(event)}


def test_clients_know_every_status() -> None:
    assert set(get_args(JobStatus)) == set(Status)


def test_stages_follow_each_other() -> None:
    assert first_stage() == "vision"
    for answered, explained, expected in (
        (False, False, []),
        (True, False, ["answer"]),
        (False, True, ["explain"]),
        (True, True, ["answer", "explain"]),
    ):
        stages = ["vision"]
        while following := next_stage(stages[-1], answered=answered, explained=explained):
            stages.append(following)
        assert stages == ["vision", *expected]
