"""The batches resource: what is accepted and refused, looking, waiting, listing, cancel, rerun, rejected."""

import io
import json
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

import api.batches
from api.services import Services
from shared import batches
from shared.batches import NewRejected
from shared.database import Database
from shared.errors import BrokenArchive, ImageFailed
from shared.tables import BatchRow
from tests.api.batching import Hands, accepted, findings, pictures, post_batch, tarred, zipped
from tests.api.driving import ONE_DATABASE, Waits, assert_problem, blobs, later

ZIP = zipped(pictures(3))


@pytest.fixture
def hands(rooms: Services) -> Hands:
    return Hands(rooms)


def get(client: FlaskClient, batch: dict[str, Any], query: str = "", **headers: str) -> Any:
    return client.get(f"/v1/batches/{batch['id']}{query}", headers=headers)


def test_an_archive_is_accepted_and_waits(client: FlaskClient, rooms: Services) -> None:
    response = post_batch(client, ZIP, question="Why?", age="45", lang="ko", site="back")
    assert response.status_code == 202
    batch = response.get_json()
    assert response.headers["Location"] == f"/v1/batches/{batch['id']}" == batch["urls"]["self"]
    assert (batch["status"], batch["progress"], batch["completed_at"]) == ("receiving", 0.0, None)
    assert (batch["filename"], batch["media_type"], batch["size_bytes"]) == (
        "study.zip",
        "application/zip",
        len(ZIP),
    )
    assert batch["defaults"] == {"question": "Why?", "age": "45", "lang": "ko", "site": "back"}
    assert set(batch["counts"].values()) == {0}
    assert [path.read_bytes() for path in blobs(rooms.settings)] == [ZIP]
    assert get(client, batch).get_json() == batch


@ONE_DATABASE
@pytest.mark.parametrize(
    ("archive", "media_type"),
    [
        (ZIP, "application/zip"),
        (zipped({}), "application/zip"),
        (tarred(pictures(1)), "application/x-tar"),
        (tarred(pictures(1), "w:gz"), "application/gzip"),
        (b"\x28\xb5\x2f\xfd" + bytes(20), "application/zstd"),
    ],
)
def test_the_first_bytes_say_what_an_archive_is(client: FlaskClient, archive: bytes, media_type: str) -> None:
    assert accepted(client, archive, filename="a.bin")["media_type"] == media_type


@ONE_DATABASE
@pytest.mark.parametrize(
    "bytes_", [b"", b"PK", b"no archive", b"Rar!\x1a\x07", b"\x00" * 10_240, b"x" * 5000]
)
def test_what_is_no_archive_is_refused_and_leaves_nothing(
    client: FlaskClient, bytes_: bytes, rooms: Services
) -> None:
    assert_problem(post_batch(client, bytes_), 415, "unsupported-archive")
    assert blobs(rooms.settings) == []


@ONE_DATABASE
def test_a_raw_body_has_its_fields_in_the_query(client: FlaskClient) -> None:
    response = client.post(
        "/v1/batches?question=Why%3F&age=45&filename=a/b.zip", data=ZIP, content_type="application/zip"
    )
    assert response.status_code == 202, response.text
    batch = response.get_json()
    assert (batch["filename"], batch["defaults"]) == ("b.zip", {"question": "Why?", "age": "45"})


@ONE_DATABASE
def test_a_raw_body_without_its_length_is_refused(client: FlaskClient, rooms: Services) -> None:
    """The server ends a chunked body that breaks off like one that is complete."""
    response = client.post(
        "/v1/batches",
        input_stream=io.BytesIO(ZIP),
        content_type="application/zip",
        environ_overrides={"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True},
    )
    assert_problem(response, 411, "length-required")
    assert blobs(rooms.settings) == []


@ONE_DATABASE
def test_a_raw_body_that_breaks_off_makes_no_batch(client: FlaskClient, rooms: Services) -> None:
    response = client.post(
        "/v1/batches",
        data=ZIP[:-100],
        content_type="application/zip",
        environ_overrides={"CONTENT_LENGTH": str(len(ZIP)), "wsgi.input_terminated": True},
    )
    assert_problem(response, 400, "invalid-request")
    assert blobs(rooms.settings) == []


@ONE_DATABASE
def test_a_form_that_breaks_off_makes_no_batch(client: FlaskClient, rooms: Services) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="archive"; filename="a.zip"\r\n\r\n' + ZIP
    response = client.post("/v1/batches", data=body, content_type="multipart/form-data; boundary=b")
    assert_problem(response, 400, "invalid-request")
    assert blobs(rooms.settings) == []


@ONE_DATABASE
def test_another_media_type_is_refused(client: FlaskClient) -> None:
    response = client.post("/v1/batches", data=b"{}", content_type="application/json")
    assert_problem(response, 415, "unsupported-body")


@ONE_DATABASE
@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"age": "old"}, "/age"),
        ({"pipeline": "nothing"}, "/pipeline"),
        ({"site": "moon"}, "/site"),
        ({"colour": "red"}, "/colour"),
        ({"upload_id": "x"}, "/upload_id"),
        ({"question": "x" * 4001}, "/question"),
    ],
)
def test_wrong_fields_are_named_before_the_archive_is_stored(
    client: FlaskClient, rooms: Services, fields: dict[str, str], pointer: str
) -> None:
    assert_problem(post_batch(client, ZIP, **fields), 400, "invalid-request", pointer)
    assert blobs(rooms.settings) == []


@ONE_DATABASE
def test_fields_may_follow_the_archive(client: FlaskClient, rooms: Services) -> None:
    def body(field: bytes) -> bytes:
        head = b'--b\r\nContent-Disposition: form-data; name="archive"; filename="a.zip"\r\n\r\n'
        return (
            head
            + ZIP
            + b'\r\n--b\r\nContent-Disposition: form-data; name="age"\r\n\r\n'
            + field
            + b"\r\n--b--"
        )

    kind = "multipart/form-data; boundary=b"
    assert_problem(
        client.post("/v1/batches", data=body(b"x"), content_type=kind), 400, "invalid-request", "/age"
    )
    assert blobs(rooms.settings) == []
    assert client.post("/v1/batches", data=body(b"7"), content_type=kind).get_json()["defaults"] == {
        "age": "7"
    }


@ONE_DATABASE
def test_an_archive_or_an_upload_and_not_both(client: FlaskClient) -> None:
    assert_problem(post_batch(client, question="Why?"), 400, "invalid-request", "/archive")
    both = post_batch(client, ZIP, upload_id="0" * 8 + "-0000" * 3 + "-" + "0" * 12)
    assert_problem(both, 400, "invalid-request", "/upload_id")
    assert_problem(post_batch(client, upload_id="0" * 8 + "-0000" * 3 + "-" + "0" * 12), 404, "not-found")


@ONE_DATABASE
def test_an_archive_has_a_limit_of_its_own(start: Callable[..., Flask], rooms: Services) -> None:
    client = start(max_archive_bytes=2000, max_upload_bytes=1024).test_client()
    assert_problem(post_batch(client, zipped({"a.jpg": bytes(2000)})), 413, "upload-too-large")
    assert blobs(rooms.settings) == []
    assert accepted(client, zipped({"a.jpg": bytes(1500)}))


@ONE_DATABASE
def test_a_pipeline_without_weights_is_refused(client: FlaskClient, rooms: Services) -> None:
    assert_problem(post_batch(client, ZIP, pipeline="scalp"), 409, "pipeline-unavailable")
    assert blobs(rooms.settings) == []


@ONE_DATABASE
def test_a_manifest_may_come_beside_the_archive(client: FlaskClient, rooms: Services) -> None:
    batch = accepted(client, ZIP, manifest=("my list.CSV", b"filename\r\n000.jpg\r\n"))
    assert rooms.storage.get(f"{batch['id']}/manifest.csv") == b"filename\r\n000.jpg\r\n"
    assert_problem(post_batch(client, ZIP, manifest=("m.txt", b"x")), 400, "invalid-request", "/manifest")
    assert len(blobs(rooms.settings)) == 2


def test_the_same_key_and_content_is_the_first_batch(client: FlaskClient, rooms: Services) -> None:
    key = {"Idempotency-Key": "k"}
    first = post_batch(client, ZIP, headers=key, question="Why?")
    again = post_batch(client, ZIP, headers=key, question="Why?")
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.get_json()["id"] == first.get_json()["id"]
    assert len(blobs(rooms.settings)) == 1
    for change in ({"question": "How?"}, {"archive": zipped(pictures(2))}, {"filename": "other.zip"}):
        fields: dict[str, Any] = {"archive": ZIP, "question": "Why?"} | change
        assert_problem(post_batch(client, headers=key, **fields), 409, "idempotency-conflict")
    assert len(blobs(rooms.settings)) == 1


def test_of_many_repeats_at_once_one_makes_the_batch(app: Flask, rooms: Services) -> None:
    def submit() -> Any:
        barrier.wait()
        return post_batch(app.test_client(), ZIP, headers={"Idempotency-Key": "race"})

    barrier = threading.Barrier(5)
    answers = [future.result() for future in [later(submit) for _ in range(5)]]
    assert sorted(answer.status_code for answer in answers) == [200] * 4 + [202]
    assert len(blobs(rooms.settings)) == 1


@ONE_DATABASE
def test_a_database_that_refuses_leaves_no_archive(
    client: FlaskClient, rooms: Services, database: Database
) -> None:
    with database.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE batches")
    assert_problem(post_batch(client, ZIP), 503, "service-unavailable")
    assert blobs(rooms.settings) == []


def test_counts_follow_the_jobs(client: FlaskClient, hands: Hands) -> None:
    batch = accepted(client, ZIP)
    bad = NewRejected(4, "readme.txt", "unsupported-image", "No picture.")
    ids = hands.read(batch["id"], [{}] * 4, [bad])
    assert get(client, batch).get_json()["counts"] == {
        "total": 5, "queued": 4, "running": 0, "succeeded": 0, "failed": 0, "canceled": 0, "expired": 0,
        "rejected": 1,
    }  # fmt: skip
    hands.see(ids[:3], lambda i: {"error": ImageFailed()} if i == 2 else {"findings": findings(mel=1.0)})
    now = get(client, batch).get_json()
    assert (now["counts"]["succeeded"], now["counts"]["failed"], now["counts"]["queued"]) == (2, 1, 1)
    assert (now["status"], now["progress"]) == ("running", 0.8)
    assert now["eta_s"] is not None
    hands.see(ids[3:], lambda i: {"findings": findings(nv=1.0)})
    hands.settle(batch["id"])
    end = get(client, batch).get_json()
    assert (end["status"], end["progress"], end["eta_s"]) == ("completed", 1.0, None)
    assert end["completed_at"]
    jobs = client.get(f"/v1/jobs?batch_id={batch['id']}&status=failed").get_json()["items"]
    assert [job["id"] for job in jobs] == [ids[2]]


def test_jobs_of_a_batch_say_where_they_came_from(client: FlaskClient, hands: Hands) -> None:
    batch = accepted(client, ZIP)
    ids = hands.read(batch["id"], [{"custom_id": "p-1", "true_label": "mel"}, {}])
    listed = client.get(batch["urls"]["jobs"]).get_json()["items"]
    assert [job["id"] for job in listed] == ids[::-1]
    job = listed[1]
    assert (job["batch_id"], job["entry"], job["entry_name"]) == (batch["id"], 0, "pictures/00000.jpg")
    assert (job["custom_id"], job["true_label"]) == ("p-1", "mel")
    assert client.get(f"/v1/jobs/{ids[0]}").get_json() == job


def test_jobs_of_a_batch_are_listed_page_by_page(client: FlaskClient, hands: Hands) -> None:
    batch, other = accepted(client, ZIP), accepted(client, ZIP)
    ids, _ = hands.read(batch["id"], [{}] * 5), hands.read(other["id"], [{}] * 5)
    url, seen, cursor = batch["urls"]["jobs"] + "&limit=2", [], ""
    while cursor is not None:
        page = client.get(url + (f"&cursor={cursor}" if cursor else "")).get_json()
        seen += [job["id"] for job in page["items"]]
        cursor = page["next"]
    assert seen == ids[::-1]


def test_a_broken_archive_keeps_what_was_accepted(client: FlaskClient, hands: Hands) -> None:
    batch = accepted(client, ZIP)
    ids = hands.read(batch["id"], [{}], error=BrokenArchive("It ends in the middle."))
    hands.see(ids, lambda i: {"findings": findings(mel=1.0)})
    hands.settle(batch["id"])
    end = get(client, batch).get_json()
    assert (end["status"], end["counts"]["succeeded"]) == ("failed", 1)
    assert (end["error"]["type"], end["error"]["detail"]) == (
        "/problems/broken-archive",
        "It ends in the middle.",
    )


def test_the_tag_changes_with_the_counts(client: FlaskClient, hands: Hands) -> None:
    batch = accepted(client, ZIP)
    ids = hands.read(batch["id"], [{}] * 2)
    tag = get(client, batch).headers["ETag"]
    same = get(client, batch, **{"If-None-Match": tag})
    assert (same.status_code, same.headers["ETag"]) == (304, tag)
    hands.see(ids[:1], lambda i: {"findings": findings(mel=1.0)})
    assert get(client, batch, **{"If-None-Match": tag}).status_code == 200


@ONE_DATABASE
def test_a_wait_ends_with_a_change(
    client: FlaskClient, hands: Hands, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits.timed = True  # by the time until the next look
    batch = accepted(client, ZIP)
    ids = hands.read(batch["id"], [{}])
    tag = get(client, batch).headers["ETag"]
    with monkeypatch.context() as patch:
        patch.setattr(api.batches, "LOOK_S", 0.05)
        patch.setattr(
            api.batches, "time", SimpleNamespace(monotonic=lambda: 0.0)
        )  # the client's time never ends
        waiting = later(lambda: get(client, batch, "?wait=60", **{"If-None-Match": tag}))
        waits.begun(2)
        hands.see(ids, lambda i: {"findings": findings(mel=1.0)})
        found = waiting.result()
    assert (found.status_code, found.get_json()["counts"]["succeeded"]) == (200, 1)


@ONE_DATABASE
def test_a_wait_without_a_change_runs_out(client: FlaskClient, hands: Hands, waits: Waits) -> None:
    waits.timed = True
    batch = accepted(client, ZIP)
    hands.read(batch["id"], [{}])
    tag = get(client, batch).headers["ETag"]
    assert get(client, batch, "?wait=0.2", **{"If-None-Match": tag}).status_code == 304
    assert waits.woken


@ONE_DATABASE
def test_an_ended_batch_is_not_waited_for(client: FlaskClient, hands: Hands, waits: Waits) -> None:
    batch = accepted(client, ZIP)
    hands.read(batch["id"])
    hands.settle(batch["id"])
    assert get(client, batch, "?wait=60").get_json()["status"] == "completed"
    assert waits.woken == []


def test_cancel_ends_the_jobs_and_forgets_the_archive(
    client: FlaskClient, hands: Hands, rooms: Services
) -> None:
    batch = accepted(client, ZIP)
    ids = hands.read(batch["id"], [{}] * 3)
    hands.see(ids[:1], lambda i: {"findings": findings(mel=1.0)})
    response = client.post(f"/v1/batches/{batch['id']}/cancel")
    now = response.get_json()
    assert (response.status_code, now["status"]) == (200, "canceled")
    assert (now["counts"]["succeeded"], now["counts"]["canceled"]) == (1, 2)
    assert now["completed_at"]
    assert blobs(rooms.settings) == []
    assert_problem(client.post(f"/v1/batches/{batch['id']}/cancel"), 409, "batch-finished")


def test_a_batch_that_is_still_read_can_be_canceled(client: FlaskClient, database: Database) -> None:
    batch = accepted(client, ZIP)
    assert client.post(f"/v1/batches/{batch['id']}/cancel").get_json()["status"] == "canceled"
    assert batches.claim(database, batch["id"], lease_s=30, max_attempts=3) is None


def test_rerun_makes_a_batch_of_the_same_pictures(
    client: FlaskClient, hands: Hands, database: Database
) -> None:
    batch = accepted(client, ZIP, question="Why?")
    hands.read(batch["id"], [{}])
    for body, only in ({"only": "all"}, "all"), ({"only": "failed"}, "failed"), ({}, "failed"):
        response = client.post(f"/v1/batches/{batch['id']}/rerun", json=body)
        assert response.status_code == 202, response.text
        new = response.get_json()
        assert response.headers["Location"] == new["urls"]["self"]
        assert (new["rerun_of"], new["rerun_only"], new["status"]) == (batch["id"], only, "receiving")
        row = database.read(lambda s, id=new["id"]: s.scalar(select(BatchRow).where(BatchRow.id == id)))
        assert row
        assert (row.rerun_of, row.rerun_only, row.defaults) == (batch["id"], only, {"question": "Why?"})


@ONE_DATABASE
@pytest.mark.parametrize("body", ['{"only": "some"}', '{"all": true}', "[]", "{", "[" * 10_000, "nul"])
def test_a_rerun_that_makes_no_sense_is_refused(client: FlaskClient, body: str) -> None:
    batch = accepted(client, ZIP)
    url = f"/v1/batches/{batch['id']}/rerun"
    assert_problem(client.post(url, data=body, content_type="application/json"), 400, "invalid-request")
    assert client.post(url, data="only=all", content_type="text/plain").status_code == 415


def test_rejected_entries_are_listed_page_by_page(client: FlaskClient, hands: Hands) -> None:
    batch = accepted(client, ZIP)
    errors = [{"detail": "must be a whole number in digits", "pointer": "/age"}]
    rejected = [NewRejected(i, f"{i}.txt", "unsupported-image", "No picture.") for i in range(2, 5)]
    rejected.append(NewRejected(5, "5.jpg", "invalid-request", "A field is wrong.", errors))
    hands.read(batch["id"], [{}] * 2, rejected)
    url, seen = batch["urls"]["rejected"] + "?limit=3", []
    first = client.get(url).get_json()
    assert first["next"]
    second = client.get(f"{url}&cursor={first['next']}").get_json()
    assert second["next"] is None
    seen = first["items"] + second["items"]
    assert [item["entry"] for item in seen] == [2, 3, 4, 5]
    assert seen[0]["problem"]["type"] == "/problems/unsupported-image"
    assert (seen[0]["problem"]["status"], seen[0]["name"]) == (415, "2.txt")
    assert seen[3]["problem"]["errors"] == errors
    assert_problem(client.get(url + "&cursor=zzz"), 400, "invalid-request", "/cursor")


def test_batches_are_listed_newest_first(client: FlaskClient) -> None:
    made = [accepted(client, ZIP)["id"] for _ in range(3)]
    first = client.get("/v1/batches?limit=2").get_json()
    rest = client.get(f"/v1/batches?limit=2&cursor={first['next']}").get_json()
    assert [batch["id"] for batch in first["items"] + rest["items"]] == made[::-1]
    assert rest["next"] is None


@ONE_DATABASE
@pytest.mark.parametrize("id", ["nothing", "0" * 36, "%00", "0" * 8 + "-0000" * 3 + "-" + "0" * 12])
@pytest.mark.parametrize(
    "path",
    ["", "/rejected", "/metrics", "/results.csv", "/results.jsonl", "/results.zip", "!/cancel", "!/rerun"],
)
def test_a_batch_that_is_not_there(client: FlaskClient, id: str, path: str) -> None:
    call = client.post if path.startswith("!") else client.get
    assert_problem(call(f"/v1/batches/{id}{path.strip('!')}"), 404, "not-found")


@ONE_DATABASE
def test_every_route_is_documented(client: FlaskClient) -> None:
    paths = client.get("/openapi.json").get_json()["paths"]
    documented = {(method, path) for path, methods in paths.items() for method in methods}
    batch, upload = "/v1/batches/{batch_id}", "/v1/uploads/{upload_id}"
    assert documented >= {
        ("post", "/v1/batches"), ("get", "/v1/batches"), ("get", batch), ("post", f"{batch}/cancel"),
        ("post", f"{batch}/rerun"), ("get", f"{batch}/rejected"), ("get", f"{batch}/metrics"),
        ("get", f"{batch}/results.csv"), ("get", f"{batch}/results.jsonl"), ("get", f"{batch}/results.zip"),
        ("post", "/v1/uploads"), ("get", upload), ("patch", upload), ("delete", upload), ("post", upload),
    }  # fmt: skip
    form = json.dumps(paths["/v1/batches"]["post"]["requestBody"])
    assert "multipart/form-data" in form
