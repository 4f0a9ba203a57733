import pytest
from flask.testing import FlaskClient

from api.services import Services
from shared import jobs
from shared.job_types import NewArtifact, Outcome
from shared.lifecycle import Event
from tests.api.driving import (
    FINDINGS,
    ONE_DATABASE,
    Waits,
    Worker,
    assert_problem,
    blobs,
    get,
    later,
    submitted,
)


def test_cancel_ends_a_job_once(client: FlaskClient, worker: Worker) -> None:
    job_id = submitted(client)["id"]
    claim = worker.claim(job_id)
    canceled = client.post(f"/v1/jobs/{job_id}/cancel").get_json()
    assert (canceled["status"], canceled["error"]) == ("canceled", None)
    assert_problem(client.post(f"/v1/jobs/{job_id}/cancel"), 409, "job-finished")
    outcome = Outcome(job_id, claim.id, Event.FINISH)
    assert jobs.record(worker.db, [outcome], max_attempts=3, redispatch_s=30) == {}


def test_a_wait_hears_of_a_cancel(client: FlaskClient, waits: Waits) -> None:
    job_id = submitted(client)["id"]

    def cancel() -> int:
        waits.begun()
        return client.application.test_client().post(f"/v1/jobs/{job_id}/cancel").status_code

    done = later(cancel)
    assert get(client, job_id, "?wait=60").get_json()["status"] == "canceled"
    assert done.result() == 200
    assert waits.woken == [True]


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
