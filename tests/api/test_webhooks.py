"""Webhooks end to end: a real receiver, signatures that its library accepts, the log, replay, refusals."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update
from standardwebhooks.webhooks import Webhook

from api import courier
from api.courier import Courier
from shared import webhooks
from shared.database import Database, now_us
from shared.tables import DeliveryRow
from tests.api.driving import ONE_DATABASE, Worker, assert_problem, post, submitted
from tests.api.receiver import Receiver, receiving
from tests.servers import free_port

pytestmark = ONE_DATABASE
SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as told:
        yield told


@pytest.fixture
def app(start: Callable[..., Flask]) -> Flask:
    return start(webhook_secret=SECRET, webhook_allow="127.0.0.1")


@pytest.fixture
def sender(app: Flask) -> Iterator[Courier]:
    made = Courier(app.extensions["medq"])
    yield made
    made.close()


def ended(client: FlaskClient, worker: Worker, url: str, **fields: str) -> str:
    job_id: str = submitted(client, webhook_url=url, **fields)["id"]
    worker.finish(job_id)
    return job_id


def send(sender: Courier, database: Database) -> None:
    """One round, in this thread."""
    database.write(lambda s: s.execute(update(DeliveryRow).values(due_at=now_us())))
    webhooks.prepare(database)
    for due in webhooks.claim(database, 10):
        sender.deliver(due)


def log(client: FlaskClient, job_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"/v1/jobs/{job_id}/deliveries").get_json()["items"]
    return found


def test_the_finished_job_arrives_signed(
    client: FlaskClient, worker: Worker, sender: Courier, database: Database, receiver: Receiver
) -> None:
    job_id = ended(client, worker, receiver.url)
    send(sender, database)
    ((path, headers, body),) = receiver.came
    assert path == "/hook?x=1"
    assert json.loads(body) == client.get(f"/v1/jobs/{job_id}").get_json()
    found = Webhook(webhooks.secret_of(SECRET, "")).verify(body, headers)
    assert (found["id"], found["status"]) == (job_id, "succeeded")
    with pytest.raises(Exception, match="signature"):
        Webhook(webhooks.secret_of(SECRET, "another")).verify(body, headers)
    (delivery,) = log(client, job_id)
    assert (delivery["id"], delivery["status"], delivery["event"]) == (
        headers["webhook-id"],
        "delivered",
        "completed",
    )
    assert [one["status"] for one in delivery["tries"]] == [204]


def test_each_stage_is_told_where_it_was_asked_for(
    client: FlaskClient, worker: Worker, sender: Courier, database: Database, receiver: Receiver
) -> None:
    job_id = submitted(client, webhook_url=receiver.url, webhook_events="stage")["id"]
    worker.finish_vision(job_id)
    send(sender, database)
    assert json.loads(receiver.came[0][2])["stage"] == "answer"
    assert [one["event"] for one in log(client, job_id)] == ["stage"]


def test_a_receiver_that_fails_gets_the_same_message_again(
    client: FlaskClient, worker: Worker, sender: Courier, database: Database, receiver: Receiver
) -> None:
    receiver.script = [500, 302, 204]
    receiver.location = receiver.url
    job_id = ended(client, worker, receiver.url)
    for _ in range(4):
        send(sender, database)
    assert len(receiver.came) == 3
    assert len({headers["webhook-id"] for _, headers, _ in receiver.came}) == 1
    (delivery,) = log(client, job_id)
    assert [one["status"] for one in delivery["tries"]] == [500, 302, 204]
    assert (delivery["status"], delivery["next_try_at"]) == ("delivered", None)
    text = client.get("/metrics").text
    assert 'medq_webhook_seconds_count{outcome="again"} 2.0' in text
    assert 'medq_webhook_seconds_count{outcome="delivered"} 1.0' in text
    assert 'medq_webhook_seconds_count{outcome="failed"} 0.0' in text


def test_a_receiver_that_stalls_or_is_away_is_noted_and_tried_again(
    client: FlaskClient, worker: Worker, sender: Courier, database: Database, receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    assert courier.LIMIT_S == 15
    monkeypatch.setattr(courier, "LIMIT_S", 0.4)
    receiver.script = ["stall"]
    stalled = ended(client, worker, receiver.url)
    away = ended(client, worker, f"http://127.0.0.1:{free_port()}/")
    send(sender, database)
    assert [one["error"] for one in log(client, stalled)[0]["tries"]] == ["no answer within 0 s"]
    assert [one["error"] for one in log(client, away)[0]["tries"]] == ["not reached: ConnectError"]
    assert all(log(client, job_id)[0]["next_try_at"] for job_id in (stalled, away))


def test_a_receiver_that_is_gone_is_asked_no_more(
    client: FlaskClient, worker: Worker, sender: Courier, database: Database, receiver: Receiver
) -> None:
    receiver.script = [410]
    job_id = ended(client, worker, receiver.url)
    send(sender, database)
    send(sender, database)
    assert len(receiver.came) == 1
    assert log(client, job_id)[0]["status"] == "failed"


def test_a_delivery_is_replayed_by_post(
    client: FlaskClient, worker: Worker, sender: Courier, database: Database, receiver: Receiver
) -> None:
    job_id = ended(client, worker, receiver.url)
    send(sender, database)
    response = client.post(f"/v1/jobs/{job_id}/deliveries")
    assert response.status_code == 202
    assert [one["status"] for one in response.get_json()["items"]] == ["waiting", "delivered"]
    send(sender, database)
    assert len({headers["webhook-id"] for _, headers, _ in receiver.came}) == 2
    assert_problem(client.post(f"/v1/jobs/{submitted(client)['id']}/deliveries"), 404, "not-found")


def test_what_was_allowed_at_submit_is_refused_at_connect_once_it_is_no_more(
    start: Callable[..., Flask], client: FlaskClient, worker: Worker, database: Database, receiver: Receiver
) -> None:
    job_id = ended(client, worker, receiver.url)
    strict = Courier(start(webhook_secret=SECRET).extensions["medq"])
    send(strict, database)
    strict.close()
    assert receiver.came == []
    assert log(client, job_id)[0]["tries"][0]["error"].startswith("refused")


def test_an_erased_job_is_not_sent(
    client: FlaskClient, worker: Worker, sender: Courier, database: Database, receiver: Receiver
) -> None:
    job_id = ended(client, worker, receiver.url)
    client.delete(f"/v1/jobs/{job_id}")
    send(sender, database)
    assert receiver.came == []


@pytest.mark.parametrize(
    "url", ["http://example.org/", "https://127.0.0.2/", "https://2130706434/", "x", "https://a@b/"]
)
def test_a_url_that_leads_inwards_is_refused_at_submit(client: FlaskClient, url: str) -> None:
    assert_problem(post(client, webhook_url=url), 400, "invalid-request", "/webhook_url")


def test_a_server_without_a_secret_says_that_it_sends_none(start: Callable[..., Flask]) -> None:
    response = post(start().test_client(), webhook_url="https://example.org/")
    assert "MEDQ_WEBHOOK_SECRET" in assert_problem(response, 400, "invalid-request", "/webhook_url")["detail"]


def test_the_thread_sends_by_itself(
    client: FlaskClient, worker: Worker, sender: Courier, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "LOOK_S", 0.01)
    came = receiver.over  # set by the receiver's end; the loop below has its own bound
    ended(client, worker, receiver.url)
    sender.start()
    for _ in range(3000):
        if receiver.came or came.wait(0.02):
            break
    assert len(receiver.came) == 1
