"""Restates the life of a batch."""

import pytest

from shared.batch_life import (
    BATCH_TERMINAL,
    BATCH_TRANSITIONS,
    BatchEvent,
    BatchStatus,
    batch_sources,
    batch_target,
)

TABLE = """
receiving read     running
receiving cancel   canceled
running   complete completed
running   fail     failed
running   cancel   canceled
"""


def test_the_life_of_a_batch() -> None:
    rows = {(status, event, to) for status, event, to in map(str.split, TABLE.split("\n")[1:-1])}
    assert rows == {
        (status.value, event.value, to.value) for (status, event), to in BATCH_TRANSITIONS.items()
    }


def test_an_ended_batch_never_moves_again() -> None:
    assert {"completed", "canceled", "failed"} == BATCH_TERMINAL
    assert not {status for status, _ in BATCH_TRANSITIONS} & BATCH_TERMINAL
    assert BATCH_TERMINAL | {status for status, _ in BATCH_TRANSITIONS} == set(BatchStatus)


@pytest.mark.parametrize("event", BatchEvent)
def test_every_event_moves_something_and_leads_to_one_status(event: BatchEvent) -> None:
    assert batch_sources(event)
    assert {to for (_, known), to in BATCH_TRANSITIONS.items() if known is event} == {batch_target(event)}
