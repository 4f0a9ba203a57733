"""Slow clients leave threads for everybody else."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from tests.api.batching import Hands, accepted, post_batch, zipped
from tests.api.driving import ONE_DATABASE, assert_problem, submitted
from tests.api.test_uploads import begun, send

pytestmark = ONE_DATABASE


@pytest.fixture
def app(start: Callable[..., Flask]) -> Flask:
    return start(api_threads=8)  # two places


def test_results_on_their_way_are_counted_until_they_are_sent_or_given_up(app: Flask) -> None:
    client: Any = app.test_client()
    batch = accepted(client, zipped({}))
    Hands(app.extensions["medq"]).read(batch["id"], [{}] * 10)
    open_ = [client.get(batch["urls"][kind], buffered=False) for kind in ("results_csv", "results_jsonl")]
    refused = client.get(batch["urls"]["results_zip"])
    assert_problem(refused, 503, "service-unavailable")
    assert refused.headers["Retry-After"] == "5"
    assert_problem(post_batch(client, zipped({})), 503, "service-unavailable")
    submitted(client)  # a person's single job is accepted all the same
    next(open_[0].iter_encoded())
    open_[0].close()  # given up
    b"".join(open_[1].iter_encoded())
    open_[1].close()
    for _ in range(3):
        with client.get(batch["urls"]["results_zip"]) as response:
            assert response.status_code == 200
    assert post_batch(client, zipped({})).status_code == 202


def test_refused_and_broken_transfers_give_their_place_back(app: Flask) -> None:
    client = app.test_client()
    url = begun(client, 10)
    for _ in range(5):
        assert post_batch(client, b"no archive").status_code == 415
        assert send(client, url, b"x", 5).status_code == 409
        assert send(client, url, b"x" * 20, 0).status_code == 413
    assert post_batch(client, zipped({})).status_code == 202
    assert send(client, url, b"x" * 10, 0).status_code == 204
