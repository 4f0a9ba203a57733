import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.services import Services
from shared import jobs
from shared.database import Database
from shared.errors import AnswerRejected, LanguageModelUnavailable
from shared.ids import new_id
from shared.jobs import NewArtifact
from shared.lifecycle import Event
from tests.api.conftest import (
    ANSWER,
    FINDINGS,
    Worker,
    assert_problem,
    blobs,
    jpeg,
    post,
    submitted,
)

ONE_DATABASE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def get(client: FlaskClient, job_id: str, query: str = "", **headers: str) -> Any:
    return client.get(f"/v1/jobs/{job_id}{query}", headers=headers)


# Looking at a job


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
    assert 0 < submitted(later)["eta_s"] < 10


# Versions and waiting


def test_an_unchanged_job_is_not_sent_again(client: FlaskClient, worker: Worker) -> None:
    job_id = submitted(client)["id"]
    etag = get(client, job_id).headers["ETag"]
    again = get(client, job_id, **{"If-None-Match": etag})
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", etag)
    worker.claim(job_id)
    assert get(client, job_id, **{"If-None-Match": etag}).status_code == 200


@pytest.mark.parametrize("tag", ["*", "x", '"', '"abc"', 'W/"1', "1"])
@ONE_DATABASE
def test_a_tag_that_is_not_ours_matches_nothing(client: FlaskClient, tag: str) -> None:
    assert get(client, submitted(client)["id"], **{"If-None-Match": tag}).status_code == 200


def test_a_wait_ends_at_once_when_the_job_changes(
    client: FlaskClient, rooms: Services, worker: Worker
) -> None:
    job_id = submitted(client)["id"]
    listening(rooms)
    changed = later(0.3, lambda: rooms.hints.publish({job_id: version_of(worker.claim(job_id))}))
    response = get(client, job_id, "?wait=10")
    assert response.get_json()["status"] == "running"
    assert time.monotonic() - changed.result() < 0.2


def test_a_change_that_came_before_the_wait_is_not_waited_for(client: FlaskClient, worker: Worker) -> None:
    job_id = submitted(client)["id"]
    worker.claim(job_id)
    started = time.monotonic()
    assert get(client, job_id, "?wait=10", **{"If-None-Match": '"1"'}).status_code == 200
    assert time.monotonic() - started < 1


def test_a_wait_for_an_ended_job_ends_at_once(client: FlaskClient, worker: Worker) -> None:
    job_id = submitted(client)["id"]
    worker.finish(job_id)
    started = time.monotonic()
    assert get(client, job_id, "?wait=10").get_json()["status"] == "succeeded"
    assert time.monotonic() - started < 1


@ONE_DATABASE
def test_a_wait_runs_out(client: FlaskClient) -> None:
    job_id = submitted(client)["id"]
    assert get(client, job_id, "?wait=0.1").status_code == 200
    assert get(client, job_id, "?wait=0.1", **{"If-None-Match": '"1"'}).status_code == 304


@ONE_DATABASE
def test_without_a_broker_the_poller_ends_the_wait(start: Callable[..., Flask], worker: Worker) -> None:
    client = start(broker_url="redis://127.0.0.1:1/0").test_client()
    job_id = submitted(client)["id"]
    changed = later(0.2, lambda: worker.claim(job_id) and None)
    assert get(client, job_id, "?wait=20").get_json()["status"] == "running"
    assert time.monotonic() - changed.result() < 5


@ONE_DATABASE
def test_a_broker_that_comes_back_is_heard_again(
    client: FlaskClient, rooms: Services, worker: Worker, broker: Any
) -> None:
    job_id = submitted(client)["id"]
    listening(rooms)
    broker.restart()
    worker.claim(job_id)
    assert get(client, job_id, "?wait=10", **{"If-None-Match": '"1"'}).get_json()["status"] == "running"
    listening(rooms)


def test_a_submit_may_wait_for_the_end(client: FlaskClient, rooms: Services, worker: Worker) -> None:
    listening(rooms)
    other = client.application.test_client()

    def work() -> None:
        while not (items := other.get("/v1/jobs").get_json()["items"]):
            time.sleep(0.02)
        job_id = items[0]["id"]
        rooms.hints.publish({job_id: worker.finish_vision(job_id)})
        claim = worker.claim(job_id, "answer")
        rooms.hints.publish({job_id: worker.write(job_id, claim, Event.FINISH, values={"answer": ANSWER})})

    working = later(0.1, work)
    response = post(client, headers={"Prefer": "respond-async, wait=20"})
    working.result()
    assert response.status_code == 200
    assert response.get_json()["status"] == "succeeded"
    assert response.headers["Preference-Applied"] == "wait=20"
    assert response.headers["Location"]


@ONE_DATABASE
@pytest.mark.parametrize("prefer", ["wait=0", "wait=-1", "wait=x", "wait", "", "handling=strict", "wait=1e9"])
def test_a_preference_that_makes_no_sense_is_ignored(client: FlaskClient, prefer: str) -> None:
    started = time.monotonic()
    assert post(client, headers={"Prefer": prefer}).status_code == 202
    assert time.monotonic() - started < 2


@ONE_DATABASE
@pytest.mark.parametrize("wait", ["-1", "61", "x", "nan", "inf", "1,2"])
def test_a_wait_of_no_length_is_refused(client: FlaskClient, wait: str) -> None:
    job_id = submitted(client)["id"]
    assert_problem(get(client, job_id, f"?wait={wait}"), 400, "invalid-request", "/wait")
    assert_problem(get(client, job_id, "?wait=1&wait=1"), 400, "invalid-request", "/wait")


@ONE_DATABASE
def test_past_half_of_the_threads_a_wait_is_refused_and_a_submit_is_not(start: Callable[..., Flask]) -> None:
    app = start(api_threads=4)
    client = app.test_client()
    job_id = submitted(client)["id"]
    waits = [later(0, lambda: get(app.test_client(), job_id, "?wait=3")) for _ in range(2)]
    time.sleep(0.5)
    refused = get(client, job_id, "?wait=3")
    assert_problem(refused, 503, "service-unavailable")
    assert refused.headers["Retry-After"] == "1"
    assert post(client, headers={"Prefer": "wait=30"}).status_code == 202
    assert get(client, job_id).status_code == 200
    app.extensions["medq"].waiters.close()
    assert [wait.result().status_code for wait in waits] == [200, 200]


@ONE_DATABASE
def test_waits_end_when_the_server_stops(client: FlaskClient, rooms: Services) -> None:
    job_id = submitted(client)["id"]
    stopped = later(0.3, rooms.waiters.close)
    assert get(client, job_id, "?wait=30").status_code == 200
    assert time.monotonic() - stopped.result() < 2
    assert get(client, job_id, "?wait=30").status_code == 200


@ONE_DATABASE
def test_waiting_clients_hold_no_connection(start: Callable[..., Flask]) -> None:
    app = start()
    job_id = submitted(app.test_client())["id"]
    waits = [later(0, lambda: get(app.test_client(), job_id, "?wait=2")) for _ in range(20)]
    time.sleep(0.7)
    assert app.extensions["medq"].db.engine.pool.checkedout() == 0
    app.extensions["medq"].waiters.close()
    for wait in waits:
        wait.result()


# Lists


def test_a_list_goes_by_pages_while_new_jobs_arrive(client: FlaskClient) -> None:
    ids = [submitted(client)["id"] for _ in range(5)]
    page = client.get("/v1/jobs?limit=2").get_json()
    seen = [job["id"] for job in page["items"]]
    submitted(client)
    while page["next"]:
        page = client.get(f"/v1/jobs?limit=2&cursor={page['next']}").get_json()
        seen += [job["id"] for job in page["items"]]
    assert seen == ids[::-1]


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


@ONE_DATABASE
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
    ],
)
def test_a_wrong_filter_is_refused_by_name(client: FlaskClient, name: str, value: str) -> None:
    assert_problem(client.get("/v1/jobs", query_string={name: value}), 400, "invalid-request", f"/{name}")


# Cancel, rerun, erase, artifacts


def test_cancel_ends_a_job_once(client: FlaskClient, worker: Worker) -> None:
    job_id = submitted(client)["id"]
    claim = worker.claim(job_id)
    canceled = client.post(f"/v1/jobs/{job_id}/cancel").get_json()
    assert (canceled["status"], canceled["error"]) == ("canceled", None)
    assert_problem(client.post(f"/v1/jobs/{job_id}/cancel"), 409, "job-finished")
    outcome = jobs.Outcome(job_id, claim.id, Event.FINISH)
    assert jobs.record(worker.db, [outcome], max_attempts=3, redispatch_s=30) == {}


def test_a_wait_hears_of_a_cancel(client: FlaskClient, rooms: Services) -> None:
    job_id = submitted(client)["id"]
    listening(rooms)
    done = later(0.3, lambda: client.application.test_client().post(f"/v1/jobs/{job_id}/cancel"))
    assert get(client, job_id, "?wait=10").get_json()["status"] == "canceled"
    assert done.result().status_code == 200


def test_rerun_makes_a_new_job_with_its_own_picture(
    client: FlaskClient, worker: Worker, rooms: Services
) -> None:
    first = submitted(client, question="Why?", age="45", sex="male", site="face", metadata='{"a": 1}')
    worker.finish(first["id"])
    response = client.post(f"/v1/jobs/{first['id']}/rerun")
    assert response.status_code == 202
    second = response.get_json()
    assert response.headers["Location"] == second["urls"]["self"]
    assert second["id"] != first["id"]
    assert (second["retry_of"], second["status"], second["findings"]) == (first["id"], "queued", None)
    for name in ("question", "lang", "age", "sex", "site", "metadata", "input", "pipeline"):
        assert second[name] == first[name]
    assert client.delete(f"/v1/jobs/{first['id']}").status_code == 204
    assert client.get(second["artifacts"]["image"], buffered=True).status_code == 200
    assert {path.parent.name for path in blobs(rooms.settings)} == {second["id"]}


def test_erase_leaves_the_bare_row(client: FlaskClient, worker: Worker, rooms: Services) -> None:
    job_id = submitted(client, question="Secret?", metadata='{"name": "Kim"}', age="45")["id"]
    rooms.storage.put(f"{job_id}/mask", b"mask")
    claim = worker.claim(job_id)
    artifact = NewArtifact("mask", "image/png", "0" * 64, 4)
    worker.write(
        job_id, claim, Event.ADVANCE, values={"findings": FINDINGS}, artifacts=(artifact,), stage="answer"
    )
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert not blobs(rooms.settings)
    seen = get(client, job_id).get_json()
    assert (seen["status"], seen["artifacts"]) == ("canceled", {})
    assert seen["erased_at"]
    for name in ("question", "age", "metadata", "findings", "answer"):
        assert seen[name] is None
    assert "Secret" not in get(client, job_id).text
    assert_problem(client.get(f"/v1/jobs/{job_id}/artifacts/image"), 404, "not-found")
    assert_problem(client.post(f"/v1/jobs/{job_id}/rerun"), 404, "not-found")
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 204


def test_an_artifact_is_streamed_with_its_own_type_and_tag(client: FlaskClient) -> None:
    job = submitted(client)
    response = client.get(job["artifacts"]["image"], buffered=True)
    assert response.mimetype == "image/jpeg"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Disposition"] == f'inline; filename="{job["id"]}-image.jpeg"'
    assert response.content_length == len(response.data) > 0
    again = client.get(job["artifacts"]["image"], headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    head = client.head(job["artifacts"]["image"], buffered=True)
    assert (head.status_code, head.data) == (200, b"")


@ONE_DATABASE
@pytest.mark.parametrize("name", ["mask", "..", "image%00", "IMAGE", "%2e%2e%2fx", "é", "x" * 100])
def test_no_such_artifact(client: FlaskClient, name: str) -> None:
    job_id = submitted(client)["id"]
    assert client.get(f"/v1/jobs/{job_id}/artifacts/{name}").status_code == 404


# Repeating a submit


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
    answers = [future.result() for future in [later(0, submit) for _ in range(6)]]
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


# When parts fail


@ONE_DATABASE
def test_a_dead_broker_slows_no_submit(start: Callable[..., Flask]) -> None:
    client = start(broker_url="redis://127.0.0.1:1/0").test_client()
    submitted(client)
    started = time.monotonic()
    for _ in range(5):
        submitted(client)
    assert time.monotonic() - started < 1


@ONE_DATABASE
def test_a_frozen_broker_slows_one_submit_by_its_timeout(client: FlaskClient, broker: Any) -> None:
    submitted(client)
    with broker.frozen():
        started = time.monotonic()
        for _ in range(5):
            submitted(client)
        assert time.monotonic() - started < 3.5


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


class later:  # noqa: N801, it reads as a word at the call
    """Run something in a thread after a pause; `result` is what it answered, or when it was done."""

    def __init__(self, pause_s: float, work: Callable[[], Any]) -> None:
        self._pause_s, self._work = pause_s, work
        self._answer: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        time.sleep(self._pause_s)
        try:
            answer = self._work()
            self._answer = time.monotonic() if answer is None else answer
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        self._thread.join(60)
        if self._error:
            raise self._error
        return self._answer


def version_of(claim: jobs.Claim) -> int:
    return claim.jobs[0].version


def listening(rooms: Services) -> None:
    """Wait until the process hears hints: the first wait starts the thread that listens."""
    rooms.waiters.start()
    deadline = time.monotonic() + 10
    with rooms.waiters.watch("probe") as watch:
        while not watch.wait(0, 0.02):
            assert time.monotonic() < deadline
            rooms.hints.publish({"probe": 1})
