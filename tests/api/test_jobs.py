from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from shared import batches
from shared.batches import NewBatch
from shared.database import Database
from shared.errors import AnswerRejected, LanguageModelUnavailable
from shared.ids import new_id
from shared.lifecycle import Event
from tests.api.driving import (
    ANSWER,
    FINDINGS,
    ONE_DATABASE,
    Worker,
    assert_problem,
    get,
    submitted,
)


def test_a_job_is_seen_through_its_whole_life(client: FlaskClient, worker: Worker) -> None:
    job_id = submitted(client, question="Is it bad?")["id"]
    claim = worker.claim(job_id)
    seen = get(client, job_id).get_json()
    assert (seen["status"], seen["stage"], seen["position"], seen["progress"]) == (
        "running",
        "vision",
        None,
        0.25,
    )
    worker.write(job_id, claim, Event.ADVANCE, values={"findings": FINDINGS}, stage="answer")
    seen = get(client, job_id).get_json()
    assert (seen["status"], seen["stage"], seen["position"], seen["progress"]) == (
        "running",
        "answer",
        1,
        0.5,
    )
    assert seen["findings"] == FINDINGS
    assert seen["answer"] is None
    claim = worker.claim(job_id, "answer")
    worker.write(job_id, claim, Event.FINISH, values={"answer": ANSWER})
    response = get(client, job_id)
    seen = response.get_json()
    assert (seen["status"], seen["stage"], seen["position"], seen["progress"]) == (
        "succeeded",
        None,
        None,
        1.0,
    )
    assert seen["answer"]["text"] == ANSWER["text"]
    assert [(a["stage"], a["number"], a["outcome"]) for a in seen["attempts"]] == [
        ("vision", 1, "advance"),
        ("answer", 2, "finish"),
    ]
    assert all(seen["metrics"][name] >= 0 for name in ("queued_s", "vision_s", "answer_s", "total_s"))
    assert "Retry-After" not in response.headers


def test_a_failed_job_tells_its_problem(client: FlaskClient, worker: Worker) -> None:
    job_id = submitted(client)["id"]
    worker.finish_vision(job_id)
    worker.write(job_id, worker.claim(job_id, "answer"), Event.FAIL, error=AnswerRejected("No quotes."))
    seen = get(client, job_id).get_json()
    assert seen["status"] == "failed"
    assert seen["error"]["type"] == "/problems/answer-rejected"
    assert seen["error"]["detail"] == "No quotes."
    assert client.get(seen["error"]["type"]).status_code == 200


def test_a_job_that_is_tried_again_has_no_error_yet(client: FlaskClient, worker: Worker) -> None:
    job_id = submitted(client)["id"]
    worker.write(job_id, worker.claim(job_id), Event.RETRY, error=LanguageModelUnavailable())
    seen = get(client, job_id).get_json()
    assert (seen["status"], seen["error"]) == ("running", None)


def test_times_are_rfc_3339_in_utc(client: FlaskClient) -> None:
    created = submitted(client)["created_at"]
    assert created.endswith("Z")
    assert abs(datetime.fromisoformat(created) - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize("job_id", ["1", "x" * 36, "é" * 36, "%00", "a%2Fb", "0" * 5000, new_id()])
def test_no_such_job(client: FlaskClient, job_id: str) -> None:
    assert_problem(get(client, job_id), 404, "not-found")
    assert_problem(client.delete(f"/v1/jobs/{job_id}"), 404, "not-found")
    for action in ("cancel", "rerun"):
        assert_problem(client.post(f"/v1/jobs/{job_id}/{action}"), 404, "not-found")


def test_a_persons_job_stands_before_an_archives(
    client: FlaskClient, job_factory: Callable[..., Any]
) -> None:
    bulk = [job_factory(lane="bulk").id for _ in range(3)]
    single = submitted(client)["id"]
    places = [get(client, job_id).get_json()["position"] for job_id in [single, *bulk]]
    assert places == [1, 2, 3, 4]


@ONE_DATABASE
def test_positions_are_exact_to_a_thousand(client: FlaskClient, job_factory: Callable[..., Any]) -> None:
    ids = [job_factory().id for _ in range(1001)]
    assert get(client, ids[998]).get_json()["position"] == 999
    assert get(client, ids[999]).get_json()["position"] == 1000
    assert get(client, ids[1000]).get_json()["position"] == "1000+"


@ONE_DATABASE
def test_the_time_to_the_end_is_known_from_recent_attempts(
    start: Callable[..., Flask], worker: Worker
) -> None:
    client = start().test_client()
    first = submitted(client)
    assert first["eta_s"] is None
    worker.finish(first["id"])
    later = start().test_client()  # another process: what it knew is not two seconds old
    assert submitted(later)["eta_s"] > 0


def test_a_list_goes_by_pages_while_new_jobs_arrive(client: FlaskClient) -> None:
    ids = [submitted(client)["id"] for _ in range(5)]
    page = client.get("/v1/jobs?limit=2").get_json()
    seen = [job["id"] for job in page["items"]]
    submitted(client)
    while page["next"]:
        page = client.get(f"/v1/jobs?limit=2&cursor={page['next']}").get_json()
        seen += [job["id"] for job in page["items"]]
    assert seen == ids[::-1]
    oldest = client.get("/v1/jobs?limit=2&order=oldest").get_json()
    assert [job["id"] for job in oldest["items"]] == ids[:2]
    later = client.get(f"/v1/jobs?limit=2&order=oldest&cursor={oldest['next']}").get_json()
    assert [job["id"] for job in later["items"]] == ids[2:4]


def test_a_list_is_filtered(client: FlaskClient, worker: Worker, job_factory: Callable[..., Any]) -> None:
    queued = submitted(client, question="100% sure? It_ITCHES")["id"]
    between = submitted(client, filename="Knee.jpg")["id"]
    worker.finish_vision(between)
    running = submitted(client)["id"]
    worker.claim(running)
    ended = submitted(client)["id"]
    worker.finish(ended)
    other = job_factory(pipeline="scalp").id

    def listed(**query: str) -> set[str]:
        response = client.get("/v1/jobs", query_string=query)
        assert response.status_code == 200, response.text
        return {job["id"] for job in response.get_json()["items"]}

    assert listed(status="queued") == {queued, other}
    assert listed(status="running") == {between, running}
    assert listed(status="succeeded") == {ended}
    assert listed(status="failed") == set()
    assert listed(pipeline="scalp") == {other}
    assert listed(q="it_itches") == {queued}
    assert listed(q="100%") == {queued}
    assert listed(q="t%i") == set()
    assert listed(q="knee") == {between}
    assert listed(batch_id=new_id()) == set()
    moment = client.get(f"/v1/jobs/{running}").get_json()["created_at"]
    assert listed(created_after=moment) == {ended, other}
    assert listed(created_before=moment) == {queued, between}


@pytest.mark.parametrize("budget_s", [0.0, 60.0])
@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_a_search_looks_at_few_jobs_at_a_time_and_goes_on(
    client: FlaskClient,
    database: Database,
    job_factory: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    budget_s: float,
    batch: bool,
    order: str,
) -> None:
    monkeypatch.setattr("api.listing.FIRST_SCAN", 2 if budget_s else 3)
    monkeypatch.setattr("api.listing.SCAN", 3)
    monkeypatch.setattr("api.listing.BUDGET_S", budget_s)
    batch_id = new_id() if batch else None
    if batch_id:
        assert batches.create(database, NewBatch(batch_id), 30)
    asked = [f"number {n}{' itches' if n in (0, 4, 5, 11) else ''}" for n in range(12)]
    for entry, question in enumerate(asked):
        job_factory(question=question, batch_id=batch_id, entry=entry if batch else None)
    query = {"q": "itches", "limit": "2", "order": order} | ({"batch_id": batch_id} if batch_id else {})
    pages, cursor = [], {}
    while cursor is not None:
        page = client.get("/v1/jobs", query_string=query | cursor).get_json()
        pages.append([job["question"] for job in page["items"]])
        cursor = {"cursor": page["next"]} if page["next"] else None
    # Out of time, a page ends after three jobs, whatever it found.
    if budget_s == 0:
        found = {"newest": [[11], [], [5, 4], [0], []], "oldest": [[0], [4, 5], [], [11], []]}
    else:
        found = {"newest": [[11, 5], [4, 0]], "oldest": [[0, 4], [5, 11]]}
    assert pages == [[asked[n] for n in page] for page in found[order]]


@ONE_DATABASE
def test_an_empty_filter_counts_as_none_and_the_document_says_so(client: FlaskClient) -> None:
    job_id = submitted(client)["id"]
    document = client.get("/openapi.json").get_json()["paths"]["/v1/jobs"]["get"]["parameters"]
    names = [one["name"] for one in document if one["allowEmptyValue"]]
    assert set(names) >= {"cursor", "limit", "status", "created_after"}
    listed = client.get("/v1/jobs", query_string=dict.fromkeys(names, "")).get_json()
    assert [job["id"] for job in listed["items"]] == [job_id]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("limit", text) for text in ("0", "201", "x", "1.5")],
        *[("cursor", text) for text in ("x", "é", "AAAA", "'; DROP TABLE jobs;--", "=", "MDE=")],
        ("status", "done"),
        ("pipeline", "tarot"),
        ("batch_id", "1"),
        ("created_after", "yesterday"),
        ("created_before", "2026-01-01T00:00:00"),
        ("q", "x" * 201),
        ("q", "a\0"),
        ("order", "best"),
    ],
)
def test_a_wrong_filter_is_refused_by_name(client: FlaskClient, name: str, value: str) -> None:
    assert_problem(client.get("/v1/jobs", query_string={name: value}), 400, "invalid-request", f"/{name}")
