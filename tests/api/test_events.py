"""Event streams over a real socket; the stream's own logic is tested in test_news.py."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.client import Client
from shared import jobs
from shared.drafts import Draft
from shared.lifecycle import Event as Move
from shared.queue import Hints
from shared.settings import Settings
from tests.api.driving import ANSWER, FINDINGS, ONE_DATABASE, Worker, assert_problem, get, submitted
from tests.api.live import Live, models, picture


@dataclass
class Told:
    name: str
    id: str
    data: Any


@pytest.fixture
def live(settings: Callable[..., Settings], tmp_path: Path) -> Iterator[Live]:
    server = Live(settings(models_dir=str(models(tmp_path / "models")), event_heartbeat_s=0.1, api_threads=8))
    yield server
    server.close()


@pytest.fixture
def hints(live: Live) -> Iterator[Hints]:
    opened = Hints(live.settings)
    yield opened
    opened.close()


@pytest.fixture
def job_id(live: Live, tmp_path: Path) -> str:
    with Client(live.url) as client:
        return client.submit(picture(tmp_path / "a.jpg")).id


@contextmanager
def stream(live: Live, job_id: str, last: str = "") -> Iterator[Iterator[str]]:
    """The stream's blocks; a comment is one too."""
    headers = {"Last-Event-ID": last} if last else {}
    with httpx.stream("GET", f"{live.url}/v1/jobs/{job_id}/events", headers=headers, timeout=60) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        yield blocks(response)


def blocks(response: httpx.Response) -> Iterator[str]:
    lines: list[str] = []
    for line in response.iter_lines():
        if line:
            lines.append(line)
        else:
            yield "\n".join(lines)
            lines = []


def told(blocks: Iterator[str]) -> Iterator[Told]:
    for block in blocks:
        if block.startswith("event:"):
            fields = dict(line.split(": ", 1) for line in block.split("\n"))
            yield Told(fields["event"], fields["id"], json.loads(fields["data"]))


def until(events: Iterator[Told], name: str) -> list[Told]:
    found = []
    for event in events:
        found.append(event)
        if event.name == name:
            return found
    raise AssertionError(f"no {name} in {[event.name for event in found]}")


def test_a_stream_tells_a_job_from_its_place_in_the_queue_to_its_answer(
    live: Live, job_id: str, hints: Hints
) -> None:
    worker = Worker(live.db)
    with stream(live, job_id) as answer:
        events = told(answer)
        assert until(events, "stage")[0].data["position"] == 1
        hints.publish({job_id: worker.finish_vision(job_id)})
        assert until(events, "findings")[-1].data["findings"] == FINDINGS
        claim = worker.claim(job_id, "answer")
        hints.publish({job_id: claim.jobs[0].version})
        until(events, "status")
        hints.keep_written(job_id, claim.jobs[0].attempt, 620)
        assert until(events, "answer.written")[-1].data == {"attempt": 2, "characters": 620}
        draft = Draft(hints, job_id, claim.jobs[0].attempt)
        draft.add("It may ")
        assert until(events, "answer.delta")[-1].data["text"] == "It may "
        draft.add("be…")
        draft.end()
        assert until(events, "answer.delta")[-1].data == {"attempt": 2, "offset": 7, "text": "be…"}
        hints.publish({job_id: worker.write(job_id, claim, Move.FINISH, values={"answer": ANSWER})})
        rest = list(events)
    assert [event.name for event in rest] == ["status", "answer", "completed"]
    assert rest[-1].data["answer"]["text"] == ANSWER["text"]
    with httpx.Client(base_url=live.url, headers={"Last-Event-ID": rest[-1].id}, timeout=60) as client:
        assert client.get(f"/v1/jobs/{job_id}/events").status_code == 204


def test_who_comes_back_hears_what_was_missed(live: Live, job_id: str) -> None:
    with stream(live, job_id) as answer:
        last = until(told(answer), "stage")[-1].id
    Worker(live.db).finish(job_id)
    with stream(live, job_id, last) as answer:
        assert [event.name for event in told(answer)] == ["status", "findings", "answer", "completed"]


@ONE_DATABASE
def test_a_draft_outlives_the_reader_and_not_the_job(live: Live, job_id: str, hints: Hints) -> None:
    worker = Worker(live.db)
    worker.finish_vision(job_id)
    attempt = worker.claim(job_id, "answer").jobs[0].attempt
    Draft(hints, job_id, attempt).add("So far.")
    with stream(live, job_id) as answer:
        assert until(told(answer), "answer.delta")[-1].data["text"] == "So far."
    assert hints.draft(job_id, attempt) == "So far."
    assert hints.draft(job_id, attempt + 1) == ""
    with Client(live.url) as client:
        client.erase(job_id)
    assert hints.draft(job_id, attempt) == ""


@ONE_DATABASE
def test_silence_is_broken_by_heartbeats(live: Live, job_id: str) -> None:
    Worker(live.db).claim(job_id)
    with stream(live, job_id) as answer:
        until(told(answer), "stage")
        assert [next(answer), next(answer)] == [": heartbeat", ": heartbeat"]


@ONE_DATABASE
def test_without_a_broker_the_poller_ends_the_stream(
    settings: Callable[..., Settings], tmp_path: Path
) -> None:
    live = Live(settings(models_dir=str(models(tmp_path / "models")), broker_url="redis://127.0.0.1:1/0"))
    try:
        with Client(live.url) as client:
            job_id = client.submit(picture(tmp_path / "a.jpg")).id
        with stream(live, job_id) as answer:
            events = told(answer)
            until(events, "stage")
            Worker(live.db).finish(job_id)
            assert until(events, "completed")[-1].data["status"] == "succeeded"
    finally:
        live.close()


@ONE_DATABASE
def test_open_streams_are_bounded_and_hold_no_connection(live: Live, job_id: str) -> None:
    url = f"{live.url}/v1/jobs/{job_id}/events"
    with stream(live, job_id) as first, stream(live, job_id) as second:
        until(told(first), "stage")
        until(told(second), "stage")
        refused = httpx.get(url, timeout=60)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
        assert refused.json()["type"] == "/problems/service-unavailable"
        assert httpx.get(f"{live.url}/v1/jobs/{job_id}?wait=0.1", timeout=60).status_code == 200
        pool: Any = live.rooms.db.engine.pool
        assert pool.checkedout() <= 1  # the poller's, when it looks just now
    jobs.cancel(live.db, job_id)
    for _ in range(600):  # a place is free once the server notices that its reader has gone
        if (again := httpx.get(url, timeout=60)).status_code == 200:
            break
        threading.Event().wait(0.1)
    assert again.text.count("event: completed") == 1


@ONE_DATABASE
def test_streams_end_when_the_server_stops(live: Live, job_id: str) -> None:
    with stream(live, job_id) as answer:
        until(told(answer), "stage")
        live.rooms.waiters.close()
        assert "completed" not in [event.name for event in told(answer)]


@ONE_DATABASE
def test_there_is_no_stream_of_no_job(client: Any) -> None:
    missing = "0" * 8 + "-0000-0000-0000-" + "0" * 12
    for job_id in (missing, "x"):
        assert_problem(client.get(f"/v1/jobs/{job_id}/events"), 404, "not-found")
    job = submitted(client)
    assert get(client, job["id"]).get_json()["urls"]["events"] == f"/v1/jobs/{job['id']}/events"
