import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from celery.contrib.testing.worker import start_worker
from flask import Flask
from flask.testing import FlaskClient

from api.services import Services
from shared.database import Database
from shared.figures import Figures
from shared.ids import id_at
from shared.queue import make_celery
from shared.settings import Settings
from shared.totals import KEY, Teller
from tests.api.driving import ONE_DATABASE, Worker, assert_problem, submitted
from tests.servers import Redis


def test_the_process_answers(client: FlaskClient) -> None:
    assert client.get("/healthz").get_json() == {"status": "ok"}


def test_without_workers_jobs_are_accepted_and_the_lack_is_named(client: FlaskClient) -> None:
    body = client.get("/readyz").get_json()
    assert body["status"] == "degraded"
    assert [lack["name"] for lack in body["degraded"]] == ["vision of skin", "answer", "archive"]


@ONE_DATABASE
@pytest.mark.filterwarnings("ignore::celery.exceptions.SecurityWarning")  # containers run as root
def test_with_workers_for_every_stage_it_is_ready(
    client: FlaskClient, configured: Callable[..., Settings]
) -> None:
    queues = ["vision.skin.interactive", "answer.all.interactive", "archive.all.bulk"]
    celery = make_celery(configured(), queues)
    with start_worker(celery, pool="solo", perform_ping_check=False, shutdown_timeout=20):
        assert client.get("/readyz").get_json() == {"status": "ready", "degraded": [], "paused": []}


@ONE_DATABASE
def test_without_a_broker_it_is_ready_and_degraded(start: Callable[..., Flask]) -> None:
    response = start(broker_url="redis://127.0.0.1:1/0").test_client().get("/readyz")
    assert response.status_code == 200
    assert [lack["name"] for lack in response.get_json()["degraded"]] == ["broker"]


@ONE_DATABASE
def test_without_a_store_it_is_not_ready(client: FlaskClient, rooms: Services) -> None:
    rooms.settings.data_path.joinpath("blobs").write_text("a file where the folder should be")
    response = client.get("/readyz")
    assert "storage" in assert_problem(response, 503, "service-unavailable")["detail"]
    assert response.headers["Retry-After"]


def test_without_a_database_it_is_not_ready(start: Callable[..., Flask]) -> None:
    url = "mysql+pymysql://nobody:nothing@127.0.0.1:1/none"
    client = start(database_url=url).test_client()
    assert "database" in assert_problem(client.get("/readyz"), 503, "service-unavailable")["detail"]
    assert_problem(client.get("/v1/jobs"), 503, "service-unavailable")
    assert client.get("/healthz").status_code == 200


def test_metrics_count_jobs_and_requests(client: FlaskClient, worker: Worker, database: Database) -> None:
    worker.finish(submitted(client)["id"])
    submitted(client)
    client.open("/nothing", method="BREW")
    text = client.get("/metrics").text
    assert 'medq_jobs{stage="vision",status="queued"} 1.0' in text
    assert 'medq_jobs{stage="answer",status="succeeded"} 1.0' in text
    assert 'medq_http_requests_total{method="POST",route="/v1/jobs",status="202"} 2.0' in text
    assert 'medq_http_requests_total{method="other",route="none",status="404"} 1.0' in text
    assert "medq_http_request_seconds_bucket" in text


def test_metrics_tell_how_long_the_oldest_job_has_waited(
    client: FlaskClient, database: Database, job_factory: Callable[..., Any]
) -> None:
    made_s = time.time() - 90
    job_factory(id=id_at(int(made_s * 1e6)))
    job_factory()
    text = client.get("/metrics").text
    found = re.search(r'medq_oldest_waiting_seconds{lane="interactive",stage="vision"} ([\d.]+)', text)
    assert found
    assert 90 <= float(found[1]) <= time.time() - made_s + 1
    assert 'medq_oldest_waiting_seconds{lane="interactive",stage="answer"} 0.0' in text


def test_metrics_look_rarely_at_jobs_that_have_ended(
    client: FlaskClient, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their count grows, and counting a million takes long: it may take a small part of the time."""
    monkeypatch.setattr("api.job_metrics.FRESH_S", 0.0)
    monkeypatch.setattr("api.job_metrics.OPEN_SHARE", 0)
    monkeypatch.setattr("api.job_metrics.LOOK_SHARE", 10**9)
    worker.finish(submitted(client)["id"])
    assert 'medq_jobs{stage="answer",status="succeeded"} 1.0' in client.get("/metrics").text
    worker.finish(submitted(client)["id"])
    submitted(client)
    text = client.get("/metrics").text
    assert 'medq_jobs{stage="vision",status="queued"} 1.0' in text
    assert 'medq_jobs{stage="answer",status="succeeded"} 1.0' in text


@ONE_DATABASE
def test_metrics_tell_what_workers_count(client: FlaskClient, configured: Callable[..., Settings]) -> None:
    figures = Figures()
    teller = Teller(configured(), figures, "vision")
    figures.stage_seconds.labels("vision", "advance").observe(0.2)
    figures.microbatch_fill.labels("skin").observe(0.5)
    teller.tell()
    text = client.get("/metrics").text
    teller.close()
    assert 'medq_workers{role="vision"} 1.0' in text
    assert 'medq_stage_seconds_bucket{le="0.25",outcome="advance",stage="vision"} 1.0' in text
    assert 'medq_stage_seconds_bucket{le="0.1",outcome="advance",stage="vision"} 0.0' in text
    assert 'medq_microbatch_fill_count{head="skin"} 1.0' in text
    assert 'medq_swept_total{action="lost"} 0.0' in text
    assert "medq_broker_up 1.0" in text


@ONE_DATABASE
def test_without_a_broker_metrics_tell_of_jobs_and_make_up_no_workers(start: Callable[..., Flask]) -> None:
    client = start(broker_url="redis://127.0.0.1:1/0").test_client()
    submitted(client)
    text = client.get("/metrics").text
    assert "medq_broker_up 0.0" in text
    assert 'medq_queue_jobs{lane="interactive",stage="vision"} 1.0' in text
    assert not re.search(r"^medq_(stage_seconds|workers|swept)", text, re.MULTILINE)


@ONE_DATABASE
def test_metrics_show_nothing_that_is_not_declared(client: FlaskClient, broker: Redis) -> None:
    broker.client().hset(KEY, 'medq_swept_total{"action": "<script>"}', "1")
    text = client.get("/metrics").text
    assert "script" not in text
    assert "medq_swept_total" in text


@ONE_DATABASE
def test_metrics_tell_the_queue_by_lane(client: FlaskClient, job_factory: Callable[..., Any]) -> None:
    for lane in ("interactive", "bulk", "bulk"):
        job_factory(lane=lane)
    text = client.get("/metrics").text
    assert 'medq_queue_jobs{lane="bulk",stage="vision"} 2.0' in text
    assert 'medq_queue_jobs{lane="interactive",stage="vision"} 1.0' in text
    assert 'medq_queue_jobs{lane="bulk",stage="explain"} 0.0' in text
    assert 'medq_jobs{stage="vision",status="queued"} 3.0' in text


def test_two_apps_in_a_process_count_apart(start: Callable[..., Flask]) -> None:
    first, second = start().test_client(), start().test_client()
    first.get("/healthz")
    counted: Any = second.get("/metrics").text
    assert 'route="/healthz"' not in counted
