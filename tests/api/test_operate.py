"""Pauses and requeueing over HTTP: what they change, whose scope they need, and that asking twice does no harm."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from api.services import Services
from shared import audit, keys
from shared.database import Database
from shared.errors import ImageFailed, UnexpectedFault
from shared.lifecycle import Event
from shared.tables import JobRow
from tests.api.driving import ONE_DATABASE, Worker, assert_problem, get, submitted
from tests.api.people import Person, with_key


def put(client: FlaskClient, path: str = "skin/all", **body: Any) -> Any:
    return client.put(f"/v1/pauses/{path}", json=body)


def requeue(client: FlaskClient, **body: Any) -> Any:
    response = client.post("/v1/requeue", json=body)
    assert response.status_code == 200, response.text
    return response.get_json()


def hours_ago(hours: float) -> str:
    return (datetime.now(UTC) - timedelta(hours=hours)).isoformat()


def fail(worker: Worker, job_id: str, error: Any) -> None:
    worker.write(job_id, worker.claim(job_id), Event.FAIL, error=error)


def test_pauses_are_made_listed_and_lifted(client: FlaskClient) -> None:
    made = put(client, note="new weights")
    assert made.status_code == 200
    assert (made.get_json()["pipeline"], made.get_json()["lane"]) == ("skin", "all")
    assert client.get("/v1/pauses").get_json() == {"items": [made.get_json()], "next": None, "running": 0}
    assert client.delete("/v1/pauses/skin/all").status_code == 204
    assert_problem(client.delete("/v1/pauses/skin/all"), 404, "not-found")
    assert client.get("/v1/pauses").get_json()["items"] == []


def test_a_paused_job_is_accepted_waits_and_goes_on(
    client: FlaskClient, worker: Worker, rooms: Services
) -> None:
    put(client)
    job_id = submitted(client)["id"]
    with pytest.raises(AssertionError):
        worker.claim(job_id)
    assert get(client, job_id).get_json()["status"] == "queued"
    assert client.get("/readyz").get_json()["paused"] == ["skin/all"]
    assert "medq_pauses 1.0" in client.get("/metrics").text
    client.delete("/v1/pauses/skin/all")
    worker.finish(job_id)
    assert get(client, job_id).get_json()["status"] == "succeeded"


def test_lifting_a_pause_makes_its_jobs_due(client: FlaskClient, database: Database) -> None:
    put(client)
    job_id = submitted(client)["id"]
    never = update(JobRow).values(due_at=2**60)
    database.write(lambda session: session.execute(never))
    client.delete("/v1/pauses/skin/all")
    due_at = database.read(lambda session: session.scalar(select(JobRow.due_at).where(JobRow.id == job_id)))
    assert due_at is not None
    assert due_at < 2**60


@ONE_DATABASE
def test_running_jobs_are_counted_for_whoever_drains(client: FlaskClient, worker: Worker) -> None:
    job_id = submitted(client)["id"]
    claim = worker.claim(job_id)
    put(client, "all/all")
    assert client.get("/v1/pauses").get_json()["running"] == 1
    worker.write(job_id, claim, Event.ADVANCE, stage="answer")
    assert client.get("/v1/pauses").get_json()["running"] == 0


@ONE_DATABASE
@pytest.mark.parametrize(
    ("path", "status"), [("hair/all", 404), ("skin/fast", 400), ("all/none", 400), ("skin/bulk", 200)]
)
def test_only_pipelines_and_lanes_that_exist_are_paused(client: FlaskClient, path: str, status: int) -> None:
    assert put(client, path).status_code == status


@ONE_DATABASE
def test_a_note_has_a_limit_and_nothing_else_is_taken(client: FlaskClient) -> None:
    assert_problem(put(client, note="x" * 256), 400, "invalid-request", "/note")
    assert_problem(put(client, until="tomorrow"), 400, "invalid-request", "/until")


def test_waiting_jobs_are_sent_again(client: FlaskClient, database: Database) -> None:
    submitted(client)
    assert requeue(client) == {"waiting": 1, "rerun": [], "next": None}
    assert requeue(client) == {"waiting": 0, "rerun": [], "next": None}  # it is due already


def test_what_failed_by_a_fault_runs_again_once(client: FlaskClient, worker: Worker, rooms: Services) -> None:
    fault, picture, old = (submitted(client, question=name)["id"] for name in ("fault", "picture", "old"))
    fail(worker, fault, UnexpectedFault())
    fail(worker, picture, ImageFailed())
    fail(worker, old, UnexpectedFault())
    long_ago = update(JobRow).where(JobRow.id == old).values(completed_at=1)
    rooms.db.write(lambda session: session.execute(long_ago))
    (new_id,) = requeue(client, failed_since=hours_ago(1))["rerun"]
    new = get(client, new_id).get_json()
    assert (new["retry_of"], new["question"], new["status"]) == (fault, "fault", "queued")
    assert rooms.storage.get(f"{new_id}/image") == rooms.storage.get(f"{fault}/image")
    assert requeue(client, failed_since=hours_ago(1))["rerun"] == []
    assert get(client, fault).get_json()["status"] == "failed"


def test_many_failed_jobs_come_in_pages(
    client: FlaskClient, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.operate.AT_ONCE", 2)
    for _ in range(5):
        fail(worker, submitted(client)["id"], UnexpectedFault())
    body = {"failed_since": hours_ago(1)}
    pages = [requeue(client, **body)]
    while following := pages[-1]["next"]:
        pages.append(requeue(client, **body, cursor=following))
    assert [len(page["rerun"]) for page in pages] == [2, 2, 1]


@ONE_DATABASE
def test_a_failed_job_without_its_picture_is_left_alone(
    client: FlaskClient, worker: Worker, rooms: Services
) -> None:
    lost, fine = submitted(client)["id"], submitted(client)["id"]
    for job_id in (lost, fine):
        fail(worker, job_id, UnexpectedFault())
    rooms.storage.erase(lost)
    (new_id,) = requeue(client, failed_since=hours_ago(1))["rerun"]
    assert get(client, new_id).get_json()["retry_of"] == fine


@ONE_DATABASE
@pytest.mark.parametrize("since", [hours_ago(25), "2026-01-01T00:00:00", "yesterday"])
def test_only_the_last_day_can_go_again(client: FlaskClient, since: str) -> None:
    response = client.post("/v1/requeue", json={"failed_since": since})
    assert_problem(response, 400, "invalid-request", "/failed_since")


@ONE_DATABASE
def test_a_job_that_goes_again_stays_its_owners(start: Callable[..., Flask], worker: Worker) -> None:
    app = start(auth="keys")
    rooms: Services = app.extensions["medq"]
    anna, operator = Person(app, "anna", ("submit", "read")), Person(app, "operator", ("admin",))
    job_id = submitted(anna.client)["id"]
    fail(worker, job_id, UnexpectedFault())
    (new_id,) = requeue(operator.client, failed_since=hours_ago(1))["rerun"]
    assert get(anna.client, new_id).get_json()["retry_of"] == job_id
    (entry,) = [row for row in audit.entries(rooms.db, new_id, 10) if row.action == "submit"]
    assert (entry.actor, entry.owner) == (operator.key_id, "anna")


@ONE_DATABASE
def test_only_the_scope_admin_operates(start: Callable[..., Flask]) -> None:
    app = start(auth="keys")
    rooms: Services = app.extensions["medq"]
    person = with_key(app, keys.create(rooms.db, "anna", ["submit", "read", "review"])[1])
    for response in (
        person.get("/v1/pauses"),
        put(person),
        person.delete("/v1/pauses/skin/all"),
        person.post("/v1/requeue", json={}),
    ):
        assert_problem(response, 403, "forbidden")
    assert put(with_key(app, keys.create(rooms.db, "boss", ["admin"])[1])).status_code == 200
