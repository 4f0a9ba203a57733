"""Messages: what is asked again about a job, from the request to the thread, and what goes when the job does."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.test import TestResponse

from shared import jobs
from shared.database import Database
from shared.job_types import Outcome
from shared.lifecycle import Event
from shared.tables import JobRow
from tests.api.driving import ANSWER, ONE_DATABASE, Worker, assert_problem, get, submitted
from tests.api.people import Person
from tests.api.test_audited import log


@pytest.fixture
def job_id(client: FlaskClient, worker: Worker) -> str:
    found: str = submitted(client, question="Is it dangerous?")["id"]
    worker.finish(found)
    return found


def ask(
    client: FlaskClient, job_id: str, text: str = "Does it spread?", key: str = "", **body: Any
) -> TestResponse:
    headers = {"Idempotency-Key": key} if key else {}
    data = json.dumps({"text": text} | body)
    return client.post(
        f"/v1/jobs/{job_id}/messages", data=data, content_type="application/json", headers=headers
    )


def answered(client: FlaskClient, worker: Worker, job_id: str, text: str = "Does it spread?") -> str:
    message_id: str = ask(client, job_id, text).get_json()["id"]
    worker.write(message_id, worker.claim(message_id, "answer"), Event.FINISH, values={"answer": ANSWER})
    return message_id


def thread(client: FlaskClient, job_id: str) -> Any:
    return client.get(f"/v1/jobs/{job_id}/messages").get_json()["items"]


def test_a_message_goes_through_the_answer_stage_and_stands_in_the_thread(
    client: FlaskClient, worker: Worker, job_id: str
) -> None:
    response = ask(client, job_id)
    assert response.status_code == 202
    message = response.get_json()
    assert response.headers["Location"] == message["urls"]["self"]
    assert (message["message_of"], message["turn"], message["question"]) == (job_id, 1, "Does it spread?")
    assert (message["status"], message["stage"], message["progress"]) == ("queued", "answer", 0.0)
    claim = worker.claim(message["id"], "answer")
    assert get(client, message["id"]).get_json()["progress"] == 0.5
    worker.write(message["id"], claim, Event.FINISH, values={"answer": ANSWER})
    second = answered(client, worker, job_id, "And then?")
    assert [(one["id"], one["turn"], one["answer"]["text"]) for one in thread(client, job_id)] == [
        (message["id"], 1, ANSWER["text"]),
        (second, 2, ANSWER["text"]),
    ]
    assert get(client, job_id).get_json()["urls"]["messages"] == message["urls"]["messages"]


def test_messages_are_no_jobs_of_the_list(client: FlaskClient, worker: Worker, job_id: str) -> None:
    answered(client, worker, job_id)
    for query in ("", "?q=spread", "?status=succeeded"):
        assert [one["id"] for one in client.get(f"/v1/jobs{query}").get_json()["items"]] in ([job_id], [])
    assert [one["id"] for one in client.get("/v1/jobs").get_json()["items"]] == [job_id]


def test_two_at_once_are_one(app: Flask, job_id: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        sent = list(pool.map(lambda _: ask(app.test_client(), job_id), range(6)))
    assert sorted(one.status_code for one in sent) == [202, 409, 409, 409, 409, 409]
    assert len(thread(app.test_client(), job_id)) == 1


def test_erasing_the_job_erases_its_messages_and_stops_the_one_that_is_answered(
    client: FlaskClient, worker: Worker, database: Database, job_id: str
) -> None:
    first = answered(client, worker, job_id, "Mrs Kim asks")
    second = ask(client, job_id, "Mrs Kim asks again").get_json()["id"]
    claim = worker.claim(second, "answer")
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
    late = Outcome(second, claim.id, Event.FINISH, values={"answer": ANSWER})
    assert jobs.record(database, [late], max_attempts=3, redispatch_s=30) == {}
    rows = database.read(lambda session: session.scalars(select(JobRow).order_by(JobRow.id)).all())
    assert [(row.id, row.status) for row in rows] == [
        (job_id, "succeeded"), (first, "succeeded"), (second, "canceled"),
    ]  # fmt: skip
    assert {(row.question, row.answer) for row in rows} == {(None, None)}
    assert all(row.erased_at for row in rows)
    assert_problem(ask(client, job_id), 409, "message-refused")


def test_a_message_is_canceled_like_a_job_and_the_next_one_may_follow(
    client: FlaskClient, worker: Worker, job_id: str
) -> None:
    first = ask(client, job_id).get_json()
    assert_problem(ask(client, job_id), 409, "message-refused")
    assert client.post(first["urls"]["cancel"]).get_json()["status"] == "canceled"
    assert ask(client, job_id).get_json()["turn"] == 2


@ONE_DATABASE
def test_only_a_job_that_has_succeeded_is_asked_about(client: FlaskClient, worker: Worker) -> None:
    waiting = submitted(client)["id"]
    assert_problem(ask(client, waiting), 409, "message-refused")
    client.post(f"/v1/jobs/{waiting}/cancel")
    assert_problem(ask(client, waiting), 409, "message-refused")
    assert_problem(ask(client, "0" * 36), 404, "not-found")


@ONE_DATABASE
def test_a_message_is_not_asked_about_nor_run_again(client: FlaskClient, worker: Worker, job_id: str) -> None:
    message = answered(client, worker, job_id)
    assert_problem(ask(client, message), 409, "message-refused")
    assert_problem(client.post(f"/v1/jobs/{message}/rerun"), 404, "not-found")
    assert_problem(client.post(f"/v1/jobs/{message}/review", json={"verdict": "agree"}), 409, "nothing-found")


@ONE_DATABASE
def test_a_thread_has_an_end(start: Callable[..., Flask], worker: Worker) -> None:
    client = start(max_messages=2).test_client()
    job_id = submitted(client)["id"]
    worker.finish(job_id)
    for _ in range(2):
        answered(client, worker, job_id)
    assert "2 times" in assert_problem(ask(client, job_id), 409, "message-refused")["detail"]


@ONE_DATABASE
def test_a_message_with_a_key_may_be_repeated(client: FlaskClient, worker: Worker, job_id: str) -> None:
    first = ask(client, job_id, key="again")
    repeated = ask(client, job_id, key="again")
    assert (first.status_code, repeated.status_code) == (202, 200)
    assert first.get_json()["id"] == repeated.get_json()["id"]
    assert_problem(ask(client, job_id, "Something else?", key="again"), 409, "idempotency-conflict")


@ONE_DATABASE
@pytest.mark.parametrize(
    ("text", "lang", "expected"),
    [
        ("Faut-il l'enlever ?", None, "fr"),
        ("번지나요?", None, "ko"),
        ("Does it spread?", None, "en"),
        ("?", "ko", "ko"),
    ],
)
def test_a_message_is_answered_in_its_language(
    client: FlaskClient, job_id: str, text: str, lang: str | None, expected: str
) -> None:
    assert ask(client, job_id, text, lang=lang).get_json()["lang"] == expected


@ONE_DATABASE
@pytest.mark.parametrize(
    ("job", "message", "kept"), [("true", True, True), ("true", False, False), ("false", True, False)]
)
def test_what_must_stay_in_the_house_stays_there(
    client: FlaskClient, worker: Worker, database: Database, job: str, message: bool, kept: bool
) -> None:
    job_id = submitted(client, external=job)["id"]
    worker.finish(job_id)
    message_id = ask(client, job_id, external=message).get_json()["id"]
    row = database.read(lambda session: session.get(JobRow, message_id))
    assert row is not None
    assert row.external is kept


@ONE_DATABASE
@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/text"),
        ({"text": ""}, "/text"),
        ({"text": " \n"}, "/text"),
        ({"text": "x" * 4001}, "/text"),
        ({"text": "\x00"}, "/text"),
        ({"text": "\ud800"}, ""),
        ({"text": 3}, "/text"),
        ({"text": "x", "lang": "de"}, "/lang"),
        ({"text": "x", "job_id": "y"}, "/job_id"),
    ],
)
def test_what_a_message_may_not_be(client: FlaskClient, job_id: str, body: Any, pointer: str) -> None:
    response = client.post(
        f"/v1/jobs/{job_id}/messages", data=json.dumps(body), content_type="application/json"
    )
    assert_problem(response, 400, "invalid-request", pointer)


@ONE_DATABASE
def test_who_asked_and_who_erased_stands_in_the_log(
    start: Callable[..., Flask], worker: Worker, database: Database
) -> None:
    anna = Person(start(auth="keys"), "anna")
    job_id = submitted(anna.client)["id"]
    worker.finish(job_id)
    message = answered(anna.client, worker, job_id)
    anna.client.delete(f"/v1/jobs/{job_id}")
    assert [action for _, _, action in log(database, job_id)] == ["submit", "message", "erase"]
    assert [action for _, _, action in log(database, message)] == ["submit", "erase"]
