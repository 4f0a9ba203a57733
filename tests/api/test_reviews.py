import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shared.catalog import PIPELINES
from tests.api.driving import ONE_DATABASE, Worker, assert_problem, submitted


@pytest.fixture
def job_id(client: FlaskClient, worker: Worker) -> str:
    found: str = submitted(client)["id"]
    worker.finish_vision(found)
    return found


def say(client: FlaskClient, job_id: str, **body: Any) -> TestResponse:
    return client.post(f"/v1/jobs/{job_id}/review", data=json.dumps(body), content_type="application/json")


def said(client: FlaskClient, job_id: str) -> Any:
    return client.get(f"/v1/jobs/{job_id}/reviews").get_json()["items"]


def test_what_is_said_is_kept_in_order(client: FlaskClient, job_id: str) -> None:
    assert said(client, job_id) == []
    first = say(client, job_id, verdict="agree")
    assert first.status_code == 201
    second = say(
        client, job_id, verdict="disagree", label="nv", note="Kein Melanom 아님 \U0001f642"
    ).get_json()
    assert (second["label"], second["note"]) == ("nv", "Kein Melanom 아님 \U0001f642")
    assert said(client, job_id) == [second, first.get_json()]


def test_erasing_a_job_erases_what_was_said(client: FlaskClient, worker: Worker, job_id: str) -> None:
    say(client, job_id, verdict="disagree", note="Mrs Kim's mole")
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert said(client, job_id) == []
    assert_problem(say(client, job_id, verdict="agree"), 409, "nothing-found")


@ONE_DATABASE
def test_every_label_of_the_pipeline_can_be_named(client: FlaskClient, job_id: str) -> None:
    for label in PIPELINES["skin"].labels:
        assert say(client, job_id, verdict="disagree", label=label.code).status_code == 201


@ONE_DATABASE
@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/verdict"),
        ({"verdict": "maybe"}, "/verdict"),
        ({"verdict": "disagree", "label": "normal"}, "/label"),
        ({"verdict": "agree", "label": "nv"}, ""),
        ({"verdict": "agree", "note": "x" * 2001}, "/note"),
        ({"verdict": "agree", "note": "\x00"}, "/note"),
        ({"verdict": "agree", "by": "somebody"}, "/by"),
    ],
)
def test_what_cannot_be_said(client: FlaskClient, job_id: str, body: dict[str, Any], pointer: str) -> None:
    assert_problem(say(client, job_id, **body), 400, "invalid-request", pointer)
    assert said(client, job_id) == []


@ONE_DATABASE
def test_there_is_nothing_to_say_before_anything_is_found(client: FlaskClient) -> None:
    assert_problem(say(client, submitted(client)["id"], verdict="agree"), 409, "nothing-found")
    missing = "0" * 8 + "-0000-0000-0000-" + "0" * 12
    assert_problem(say(client, missing, verdict="agree"), 404, "not-found")
    assert_problem(client.get(f"/v1/jobs/{missing}/reviews"), 404, "not-found")


def listed(client: FlaskClient, query: str) -> set[str]:
    return {one["id"] for one in client.get(f"/v1/jobs?{query}").get_json()["items"]}


def test_what_waits_for_a_review_is_listed_until_it_has_one(
    client: FlaskClient, worker: Worker, job_id: str
) -> None:
    waiting, erased = submitted(client)["id"], submitted(client)["id"]
    worker.finish(erased)
    client.delete(f"/v1/jobs/{erased}")
    assert listed(client, "reviewed=false") == {job_id}
    assert listed(client, "reviewed=true") == set()
    say(client, job_id, verdict="agree")
    assert listed(client, "reviewed=false") == set()
    assert listed(client, "reviewed=true") == {job_id}
    assert listed(client, "") == {job_id, waiting, erased}
