import time
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.services import Services
from api.waiting import Waiters
from shared.lifecycle import Event
from shared.queue import HINTS
from tests.api.driving import (
    ANSWER,
    ONE_DATABASE,
    PATIENCE_S,
    Waits,
    Worker,
    assert_problem,
    get,
    later,
    listening,
    post,
    submitted,
    version_of,
)


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


def test_a_wait_ends_when_the_job_changes(
    client: FlaskClient, rooms: Services, worker: Worker, waits: Waits
) -> None:
    job_id = submitted(client)["id"]

    def change() -> None:
        waits.begun()
        rooms.hints.publish({job_id: version_of(worker.claim(job_id))})

    changed = later(change)
    assert get(client, job_id, "?wait=60").get_json()["status"] == "running"
    changed.result()
    assert waits.woken == [True]


def test_a_hint_wakes_without_the_poller(rooms: Services) -> None:
    waiters = Waiters(rooms.db, rooms.hints, limit=4, poll_s=300)
    try:
        with waiters.watch("a job") as watch:
            deadline = time.monotonic() + PATIENCE_S
            while not watch.wait(3, 0.05):  # the thread that listens takes a moment to connect
                assert time.monotonic() < deadline
                rooms.hints.publish({"another job": 9, "a job": 4})
            assert not watch.wait(4, 0.05)
    finally:
        waiters.close()


@ONE_DATABASE
@pytest.mark.parametrize("message", ["", "x", "[]", "null", '{"a": "b"}', '{"a": null}', b"\xff"])
def test_what_is_no_hint_is_overheard(rooms: Services, broker: Any, message: Any) -> None:
    listening(rooms)
    with broker.client() as redis:
        redis.publish(HINTS, message)
    listening(rooms)


def test_a_change_that_came_before_the_wait_is_not_waited_for(
    client: FlaskClient, worker: Worker, waits: Waits
) -> None:
    job_id = submitted(client)["id"]
    worker.claim(job_id)
    assert get(client, job_id, "?wait=60", **{"If-None-Match": '"1"'}).status_code == 200
    assert waits.woken == []


def test_an_ended_job_is_not_waited_for(client: FlaskClient, worker: Worker, waits: Waits) -> None:
    job_id = submitted(client)["id"]
    worker.finish(job_id)
    assert get(client, job_id, "?wait=60").get_json()["status"] == "succeeded"
    assert waits.woken == []


@ONE_DATABASE
def test_a_wait_runs_out(client: FlaskClient) -> None:
    job_id = submitted(client)["id"]
    assert get(client, job_id, "?wait=0.1").status_code == 200
    assert get(client, job_id, "?wait=0.1", **{"If-None-Match": '"1"'}).status_code == 304


@ONE_DATABASE
def test_without_a_broker_the_poller_ends_the_wait(
    start: Callable[..., Flask], worker: Worker, waits: Waits
) -> None:
    client = start(broker_url="redis://127.0.0.1:1/0").test_client()
    job_id = submitted(client)["id"]

    def change() -> None:
        waits.begun()
        worker.claim(job_id)

    changed = later(change)
    assert get(client, job_id, "?wait=60").get_json()["status"] == "running"
    changed.result()
    assert waits.woken == [True]


@ONE_DATABASE
def test_a_broker_that_comes_back_is_heard_again(
    client: FlaskClient, rooms: Services, worker: Worker, broker: Any
) -> None:
    job_id = submitted(client)["id"]
    listening(rooms)
    broker.restart()
    worker.claim(job_id)
    assert get(client, job_id, "?wait=60", **{"If-None-Match": '"1"'}).get_json()["status"] == "running"
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

    working = later(work)
    response = post(client, headers={"Prefer": "respond-async, wait=60"})
    working.result()
    assert response.status_code == 200
    assert response.get_json()["status"] == "succeeded"
    assert response.headers["Preference-Applied"] == "wait=60"
    assert response.headers["Location"]


@ONE_DATABASE
@pytest.mark.parametrize("prefer", ["wait=0", "wait=-1", "wait=x", "wait", "", "handling=strict", "wait=1e9"])
def test_a_preference_that_makes_no_sense_is_ignored(client: FlaskClient, prefer: str, waits: Waits) -> None:
    assert post(client, headers={"Prefer": prefer}).status_code == 202
    assert waits.woken == []


@ONE_DATABASE
@pytest.mark.parametrize("wait", ["-1", "61", "x", "nan", "inf", "1,2"])
def test_a_wait_of_no_length_is_refused(client: FlaskClient, wait: str) -> None:
    job_id = submitted(client)["id"]
    assert_problem(get(client, job_id, f"?wait={wait}"), 400, "invalid-request", "/wait")
    assert_problem(get(client, job_id, "?wait=1&wait=1"), 400, "invalid-request", "/wait")


@ONE_DATABASE
def test_past_half_of_the_threads_a_wait_is_refused_and_a_submit_is_not(
    start: Callable[..., Flask], waits: Waits
) -> None:
    app = start(api_threads=4)
    client = app.test_client()
    job_id = submitted(client)["id"]
    waiting = [later(lambda: get(app.test_client(), job_id, "?wait=60")) for _ in range(2)]
    waits.begun(2)
    refused = get(client, job_id, "?wait=60")
    assert_problem(refused, 503, "service-unavailable")
    assert refused.headers["Retry-After"] == "1"
    assert post(client, headers={"Prefer": "wait=30"}).status_code == 202
    assert get(client, job_id).status_code == 200
    app.extensions["medq"].waiters.close()
    assert [one.result().status_code for one in waiting] == [200, 200]


@ONE_DATABASE
def test_waits_end_when_the_server_stops(client: FlaskClient, rooms: Services, waits: Waits) -> None:
    job_id = submitted(client)["id"]

    def stop() -> None:
        waits.begun()
        rooms.waiters.close()

    stopped = later(stop)
    assert get(client, job_id, "?wait=30").status_code == 200
    stopped.result()
    assert get(client, job_id, "?wait=30").status_code == 200


@ONE_DATABASE
def test_waiting_clients_hold_no_connection(start: Callable[..., Flask], waits: Waits) -> None:
    app = start()
    job_id = submitted(app.test_client())["id"]
    waiting = [later(lambda: get(app.test_client(), job_id, "?wait=60")) for _ in range(20)]
    waits.begun(20)
    assert app.extensions["medq"].db.engine.pool.checkedout() <= 1  # the poller's, when it looks just now
    app.extensions["medq"].waiters.close()
    for one in waiting:
        one.result()
