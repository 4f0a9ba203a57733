"""A full queue or disk refuses before it accepts, and says when there will be room."""

from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select, update

import api.pace
import api.pressure
from api.pressure import FULL_RETRY_S, LONGEST_RETRY_S, retry_after_s
from shared.database import Database
from shared.settings import Settings
from shared.tables import AttemptRow, BatchRow, JobRow, UploadRow
from tests.api.batching import zipped
from tests.api.driving import JPEG, ONE_DATABASE, Worker, assert_problem, blobs, post, submitted

Start = Callable[..., Flask]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request counts and measures anew."""
    monkeypatch.setattr(api.pressure, "FRESH_S", 0.0)
    monkeypatch.setattr(api.pace, "FRESH_S", 0.0)


def rows(database: Database, table: type) -> int:
    return database.read(lambda session: session.scalar(select(func.count()).select_from(table))) or 0


def test_a_full_queue_refuses_and_a_claim_makes_room(
    start: Start, configured: Callable[..., Settings], database: Database, worker: Worker
) -> None:
    client = start(max_waiting=3).test_client()
    first = [submitted(client)["id"] for _ in range(3)]
    refused = post(client)
    assert_problem(refused, 429, "too-many-requests")
    assert refused.headers["Retry-After"] == str(LONGEST_RETRY_S)  # nothing was ever done here
    assert rows(database, JobRow) == 3
    assert len(blobs(configured())) == 3
    worker.claim(first[0])
    submitted(client)
    assert_problem(post(client), 429, "too-many-requests")


@ONE_DATABASE
def test_what_was_accepted_before_is_found_again_also_when_the_queue_is_full(start: Start) -> None:
    client = start(max_waiting=1).test_client()
    key = {"Idempotency-Key": "k"}
    first = submitted(client, headers=key)
    again = post(client, headers=key)
    assert (again.status_code, again.get_json()["id"]) == (200, first["id"])


@ONE_DATABASE
def test_jobs_of_archives_take_no_room_from_peoples(start: Start, database: Database) -> None:
    client = start(max_waiting=1).test_client()
    submitted(client)
    database.write(lambda s: s.execute(update(JobRow).values(lane="bulk")))
    submitted(client)


def test_the_pause_follows_from_what_was_done_lately(
    start: Start, database: Database, worker: Worker
) -> None:
    client = start(max_waiting=100).test_client()
    ended = [submitted(client)["id"] for _ in range(5)]
    for job_id in ended:
        worker.finish_vision(job_id)
    # Four a second: from the first end to the last, a second passed.
    for number, job_id in enumerate(ended):
        of = update(AttemptRow).where(AttemptRow.job_id == job_id)
        database.write(
            lambda s, of=of, n=number: s.execute(of.values(started_at=1, ended_at=10**6 + n * 250_000))
        )
    client = start(max_waiting=20).test_client()
    for _ in range(20):
        submitted(client)
    refused = post(client)
    assert refused.headers["Retry-After"] == "1"  # (20 - 18) / 4, rounded up


@pytest.mark.parametrize(
    ("waiting", "most", "per_s", "expected"),
    [(1000, 1000, 10.0, 10), (1000, 1000, 1000.0, 1), (1000, 1000, 0.0, 600), (10**6, 10**6, 1.0, 600)],
)
def test_the_pause_has_bounds(waiting: int, most: int, per_s: float, expected: int) -> None:
    assert retry_after_s(waiting, most, per_s) == expected


@ONE_DATABASE
def test_a_full_disk_refuses_pictures_archives_and_uploads(
    start: Start, configured: Callable[..., Settings], database: Database
) -> None:
    Path(configured().storage_location).mkdir(parents=True)
    client: FlaskClient = start(min_free_bytes=2**50).test_client()
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "100"}
    archive = zipped({"a.jpg": JPEG})
    answers = [
        post(client),
        client.post("/v1/batches", data=archive, content_type="application/zip"),
        client.post("/v1/uploads", headers=tus),
    ]
    for refused in answers:
        assert_problem(refused, 429, "too-many-requests")
        assert refused.headers["Retry-After"] == str(FULL_RETRY_S)
    assert [rows(database, table) for table in (JobRow, BatchRow, UploadRow)] == [0, 0, 0]
    assert blobs(configured()) == []
