import threading
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from flask import Flask
from flask.testing import FlaskClient

from api.services import Services
from shared.database import Database
from tests.api.driving import (
    ONE_DATABASE,
    assert_problem,
    blobs,
    jpeg,
    later,
    post,
    submitted,
)
from tests.sockets import Cost, Met


def test_the_same_key_and_content_is_the_first_job(
    client: FlaskClient, database: Database, rooms: Services
) -> None:
    key = {"Idempotency-Key": "Key-A"}
    first = post(client, headers=key, question="Why?").get_json()
    again = post(client, headers=key, question="Why?")
    assert (again.status_code, again.get_json()["id"]) == (200, first["id"])
    assert len(blobs(rooms.settings)) == 1
    other = post(client, headers={"Idempotency-Key": "key-a"}, question="Why?")
    assert other.status_code == 202


@pytest.mark.parametrize(
    "change",
    [
        {"question": "How?"},
        {"image": jpeg(shade=10)},
        {"filename": "b.jpg"},
        {"age": "3"},
        {"metadata": "{}"},
        {"external": "false"},
    ],
)
def test_the_same_key_with_other_content_is_refused(client: FlaskClient, change: dict[str, Any]) -> None:
    key = {"Idempotency-Key": "k"}
    assert post(client, headers=key, question="Why?").status_code == 202
    assert_problem(post(client, headers=key, **({"question": "Why?"} | change)), 409, "idempotency-conflict")


def test_of_many_repeats_at_once_one_makes_the_job(app: Flask, rooms: Services) -> None:
    def submit() -> Any:
        barrier.wait()
        return post(app.test_client(), headers={"Idempotency-Key": "race"})

    barrier = threading.Barrier(6)
    answers = [future.result() for future in [later(submit) for _ in range(6)]]
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [202]
    assert len({answer.get_json()["id"] for answer in answers}) == 1
    assert len(blobs(rooms.settings)) == 1


@ONE_DATABASE
@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_of_no_length_is_refused(client: FlaskClient, key: str) -> None:
    assert_problem(post(client, headers={"Idempotency-Key": key}), 400, "invalid-request", "/Idempotency-Key")


@ONE_DATABASE
def test_a_key_of_an_erased_job_makes_a_new_one(client: FlaskClient) -> None:
    key = {"Idempotency-Key": "k"}
    first = post(client, headers=key).get_json()["id"]
    client.delete(f"/v1/jobs/{first}")
    assert post(client, headers=key).status_code == 202


@ONE_DATABASE
def test_a_dead_broker_slows_no_submit(cost: Cost, start: Callable[..., Flask]) -> None:
    client = start(broker_url="redis://127.0.0.1:1/0").test_client()
    submitted(client)
    _, met = cost.of(lambda: [submitted(client) for _ in range(5)])
    assert met == Met()


@ONE_DATABASE
def test_a_frozen_broker_slows_one_submit_by_its_timeout(
    cost: Cost, client: FlaskClient, broker: Any
) -> None:
    submitted(client)
    with broker.frozen():
        _, met = cost.of(lambda: [submitted(client) for _ in range(5)])
    assert met.ran_out_s in ([1.0], [])  # without the breaker at every submit; none if it was open already


@ONE_DATABASE
def test_a_store_that_cannot_write_is_said_without_details(client: FlaskClient, rooms: Services) -> None:
    rooms.settings.data_path.joinpath("blobs").write_text("a file where the folder should be")
    response = post(client)
    assert_problem(response, 503, "service-unavailable")
    assert response.headers["Retry-After"]
    assert "blobs" not in response.text
    assert client.get("/v1/jobs").get_json()["items"] == []


@ONE_DATABASE
def test_a_database_that_refuses_leaves_no_blob(
    client: FlaskClient, rooms: Services, database: Database
) -> None:
    with database.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE artifacts")
    assert_problem(post(client), 503, "service-unavailable")
    assert not blobs(rooms.settings)


@ONE_DATABASE
def test_the_log_of_a_failed_statement_holds_nothing_of_the_patient(
    client: FlaskClient, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE jobs RENAME COLUMN lost TO gone")
    before = structlog.get_config()
    structlog.configure([structlog.processors.format_exc_info, structlog.processors.JSONRenderer()])
    try:
        assert_problem(post(client, question="the patient's secret"), 503, "service-unavailable")
    finally:
        structlog.configure(**before)
    logged = capsys.readouterr().out
    assert "OperationalError" in logged
    assert "secret" not in logged
