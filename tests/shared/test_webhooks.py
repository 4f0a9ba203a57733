"""Deliveries in the database: made once, claimed once, tried ten times within two hours, replayed."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import func, select, update

from shared import jobs, webhooks
from shared.audit import NOBODY
from shared.database import Database, now_us
from shared.errors import NotFound
from shared.job_types import NewJob, NewWebhook, Outcome
from shared.lifecycle import Event
from shared.tables import DeliveryRow, DeliveryTryRow, JobRow, WebhookRow
from shared.webhooks import Due, Try

URL = "https://example.org/hook"
FAILED = Try(delivered=False, status=500, error=None, took_s=0.1)
Make = Callable[..., NewJob]


@pytest.fixture
def ended(database: Database, job_factory: Make) -> Callable[..., NewJob]:
    """A job with a webhook that has ended."""

    def make(stages: bool = False) -> NewJob:
        new = job_factory(webhook=NewWebhook(URL, stages), owner="lab")
        assert jobs.cancel(database, new.id)
        return new

    return make


def due_now(database: Database) -> None:
    database.write(lambda s: s.execute(update(DeliveryRow).values(due_at=now_us())))


def rows(database: Database) -> list[DeliveryRow]:
    return list(database.read(lambda s: s.scalars(select(DeliveryRow).order_by(DeliveryRow.id)).all()))


def test_an_owners_secret_is_his_own_and_always_the_same() -> None:
    secrets = {
        webhooks.secret_of(server, owner) for server in ("a" * 32, "b" * 32) for owner in ("", "x", "y")
    }
    assert len(secrets) == 6
    assert all(secret.startswith("whsec_") for secret in secrets)
    assert webhooks.secret_of("a" * 32, "x") == webhooks.secret_of("a" * 32, "x")


def test_the_end_of_a_job_makes_one_delivery(database: Database, job_factory: Make) -> None:
    new = job_factory(webhook=NewWebhook(URL, False), owner="lab")
    job_factory()
    assert webhooks.prepare(database) == 0
    jobs.cancel(database, new.id)
    assert (webhooks.prepare(database), webhooks.prepare(database)) == (1, 0)
    (due,) = webhooks.claim(database, 10)
    assert (due.job_id, due.owner, due.url, due.event, due.tries) == (new.id, "lab", URL, "completed", 0)


def test_with_stages_every_advance_is_told_once(database: Database, job_factory: Make) -> None:
    new = job_factory(webhook=NewWebhook(URL, True))
    claim = jobs.claim(database, [new.id], "vision", "w", lease_s=30, limit_s=60)
    outcome = Outcome(new.id, claim.id, Event.ADVANCE, stage="answer")
    jobs.record(database, [outcome], max_attempts=3, redispatch_s=30)
    assert (webhooks.prepare(database), webhooks.prepare(database)) == (1, 0)
    jobs.cancel(database, new.id)
    assert webhooks.prepare(database) == 1
    assert [row.event for row in rows(database)] == ["stage", "completed"]


def test_several_processes_make_and_claim_each_delivery_once(
    database: Database, ended: Callable[..., NewJob]
) -> None:
    for _ in range(6):
        ended()
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: webhooks.prepare(database), range(4)))
        claimed = [
            due.id for got in pool.map(lambda _: webhooks.claim(database, 10), range(4)) for due in got
        ]
    assert sum(made) == 6
    assert len(claimed) == len(set(claimed)) == 6


def test_a_delivery_whose_sender_died_is_sent_by_another(
    database: Database, ended: Callable[..., NewJob]
) -> None:
    ended()
    webhooks.prepare(database)
    assert len(webhooks.claim(database, 10)) == 1
    assert webhooks.claim(database, 10) == []
    due_now(database)  # the lease is over
    assert len(webhooks.claim(database, 10)) == 1


def test_ten_tries_are_spread_over_two_hours_and_then_it_has_failed(
    database: Database, ended: Callable[..., NewJob]
) -> None:
    assert webhooks.TRIES == 10
    assert 7000 < sum(webhooks.PAUSES_S) <= 7200
    assert list(webhooks.PAUSES_S) == sorted(webhooks.PAUSES_S)
    ended()
    webhooks.prepare(database)
    for number in range(webhooks.TRIES):
        due_now(database)
        (due,) = webhooks.claim(database, 10)
        assert due.tries == number
        webhooks.note(database, due, FAILED)
        waits = database.read(lambda s: s.scalar(select(DeliveryRow.due_at - now_us()))) or 0
        if number < 9:
            pause_us = webhooks.PAUSES_S[number] * 1e6
            assert pause_us * 0.9 - 3e6 < waits <= pause_us
    due_now(database)
    assert webhooks.claim(database, 10) == []
    assert [row.status for row in rows(database)] == ["failed"]


@pytest.mark.parametrize(
    ("went", "status"),
    [
        (Try(True, 204, None, 0.1), "delivered"),
        (Try(False, 410, None, 0.1, final=True), "failed"),
        (FAILED, "waiting"),
    ],
)
def test_a_try_is_written_down(
    database: Database, ended: Callable[..., NewJob], went: Try, status: str
) -> None:
    new = ended()
    webhooks.prepare(database)
    (due,) = webhooks.claim(database, 10)
    webhooks.note(database, due, went)
    ((row, (tried,)),) = webhooks.log_of(database, new.id)
    assert (row.status, row.tries) == (status, 1)
    assert (tried.number, tried.status, tried.took_us) == (1, went.status, 100_000)


def test_a_slow_sender_that_lost_its_claim_writes_nothing(
    database: Database, ended: Callable[..., NewJob]
) -> None:
    new = ended()
    webhooks.prepare(database)
    (slow,) = webhooks.claim(database, 10)
    due_now(database)
    (fast,) = webhooks.claim(database, 10)
    webhooks.note(database, fast, Try(True, 200, None, 0.1))
    webhooks.note(database, slow, FAILED)
    ((row, tries),) = webhooks.log_of(database, new.id)
    assert (row.status, len(tries)) == ("delivered", 1)


def test_a_replay_is_a_delivery_of_its_own(database: Database, ended: Callable[..., NewJob]) -> None:
    new = ended()
    webhooks.prepare(database)
    assert webhooks.replay(database, new.id) != rows(database)[0].id
    assert len(webhooks.claim(database, 10)) == 2
    with pytest.raises(NotFound):
        webhooks.replay(database, "nothing")


def test_erasing_a_job_forgets_its_webhook(database: Database, ended: Callable[..., NewJob]) -> None:
    new = ended()
    webhooks.prepare(database)
    (due,) = webhooks.claim(database, 10)
    webhooks.note(database, due, FAILED)
    assert jobs.erase(database, new.id, NOBODY)
    for table in (WebhookRow, DeliveryRow, DeliveryTryRow):
        count: Any = select(func.count()).select_from(table)
        assert database.read(lambda s, count=count: s.scalar(count)) == 0
    webhooks.note(database, Due(due.id, new.id, "lab", URL, "completed", 1), FAILED)  # its sender comes back
    assert webhooks.log_of(database, new.id) == []
    assert database.read(lambda s: s.get(JobRow, new.id))
