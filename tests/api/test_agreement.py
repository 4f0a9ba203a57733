"""How often reviews agree: what is counted, by what, and whose."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from scipy.stats import binomtest

from shared import agreement
from shared.agreement import interval
from shared.database import Database
from shared.lifecycle import Event
from tests.api.driving import ONE_DATABASE, Worker, assert_problem, submitted
from tests.api.people import Person
from tests.shared.test_jobs_plans import watched

FIRST = {"name": "skin", "version": "1", "sha256": "a" * 64}
SECOND = {"name": "skin", "version": "2", "sha256": "b" * 64}


def reviewed(
    client: FlaskClient, worker: Worker, label: str, *words: dict[str, str], model: dict[str, str] = FIRST
) -> str:
    """A job with this first finding, and what clinicians said of it, in order."""
    job_id: str = submitted(client)["id"]
    rest = "nv" if label == "mel" else "mel"
    findings = [
        {"label": code, "name": code, "probability": p, "above_threshold": p > 0.5}
        for code, p in ((label, 0.8), (rest, 0.2))
    ]
    claim = worker.claim(job_id)
    worker.write(job_id, claim, Event.FINISH, values={"findings": findings, "model": model})
    for word in words:
        assert client.post(f"/v1/jobs/{job_id}/review", json=word).status_code == 201
    return job_id


AGREE = {"verdict": "agree"}
NO = {"verdict": "disagree"}


def counts(client: FlaskClient, query: str = "") -> Any:
    items = client.get(f"/v1/agreement{query}").get_json()["items"]
    return {
        (one["label"], one["version"]): (one["agreed"], one["disagreed"], one["instead"]) for one in items
    }


def test_reviews_are_counted_by_label_and_network(client: FlaskClient, worker: Worker) -> None:
    reviewed(client, worker, "mel", AGREE)
    reviewed(client, worker, "mel", NO | {"label": "nv"})
    reviewed(client, worker, "mel", NO)
    reviewed(client, worker, "mel", AGREE, model=SECOND)
    reviewed(client, worker, "nv", AGREE)
    reviewed(client, worker, "nv")
    assert counts(client) == {
        ("mel", "1"): (1, 2, {"nv": 1}),
        ("mel", "2"): (1, 0, {}),
        ("nv", "1"): (1, 0, {}),
    }
    (first, *_) = client.get("/v1/agreement").get_json()["items"]
    assert (first["reviewed"], first["share"], first["sha256"]) == (3, pytest.approx(1 / 3), "a" * 64)
    assert first["interval"] == pytest.approx(interval(1, 3))
    networks = client.get("/v1/agreement").get_json()["networks"]
    assert [(one["version"], one["reviewed"], one["agreed"], one["instead"]) for one in networks] == [
        ("1", 4, 2, {"nv": 1}),
        ("2", 1, 1, {}),
    ]


def test_the_last_word_on_a_job_is_the_one_that_counts(client: FlaskClient, worker: Worker) -> None:
    reviewed(client, worker, "mel", NO | {"label": "nv"}, AGREE, NO | {"label": "bkl"})
    assert counts(client) == {("mel", "1"): (0, 1, {"bkl": 1})}


def test_what_was_erased_is_not_counted(client: FlaskClient, worker: Worker) -> None:
    job_id = reviewed(client, worker, "mel", AGREE)
    client.delete(f"/v1/jobs/{job_id}")
    assert counts(client) == {}


@ONE_DATABASE
def test_only_reviews_are_read_however_many_jobs_there_are(database: Database) -> None:
    """Joined from the jobs' side it took a hundred million lookups for ten thousand reviews."""
    with watched(database) as seen:
        agreement.of(database, "anna")
    ((statement, parameters),) = seen
    with database.engine.connect() as connection:
        steps = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    plan = "\n".join(step[-1] for step in steps)
    assert "SCAN" not in plan
    assert re.findall(r"INDEX (\w+)", plan) == [
        "ix_reviews_owner",
        "ix_reviews_job",
        "sqlite_autoindex_jobs_1",
    ]


@ONE_DATABASE
def test_the_table_can_be_narrowed(client: FlaskClient, worker: Worker) -> None:
    reviewed(client, worker, "mel", AGREE)
    assert counts(client, "?pipeline=skin") == counts(client)
    assert counts(client, "?pipeline=scalp") == {}
    assert counts(client, "?created_after=2020-01-01T00:00:00Z") == counts(client)
    assert counts(client, "?created_after=2099-01-01T00:00:00Z") == {}
    assert_problem(client.get("/v1/agreement?pipeline=knee"), 400, "invalid-request", "/pipeline")


@ONE_DATABASE
def test_nobody_counts_anothers(start: Callable[..., Flask], worker: Worker) -> None:
    app = start(auth="keys")
    anna, ben = Person(app, "anna"), Person(app, "ben")
    reviewed(anna.client, worker, "mel", AGREE)
    assert len(counts(anna.client)) == 1
    assert counts(ben.client) == {}


@pytest.mark.parametrize(("agreed", "of"), [(0, 5), (5, 5), (1, 3), (97, 100), (500, 1000)])
def test_the_interval_is_wilsons(agreed: int, of: int) -> None:
    expected = binomtest(agreed, of).proportion_ci(0.95, method="wilson")
    assert interval(agreed, of) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_of_nothing_nothing_is_known() -> None:
    assert interval(0, 0) == (0.0, 1.0)
