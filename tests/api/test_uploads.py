"""tus 1.0 at /v1/uploads, request by request."""

import base64
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update
from werkzeug.test import TestResponse

from api.services import Services
from shared import uploads
from shared.database import Database
from shared.tables import UploadRow
from tests.api.batching import pictures, post_batch, zipped
from tests.api.driving import ONE_DATABASE, assert_problem, blobs

TUS = {"Tus-Resumable": "1.0.0"}
DATA = zipped(pictures(2))


def begin(client: FlaskClient, length: int = len(DATA), **headers: str) -> TestResponse:
    return client.post("/v1/uploads", headers=TUS | {"Upload-Length": str(length)} | headers)


def begun(client: FlaskClient, length: int = len(DATA), **headers: str) -> str:
    response = begin(client, length, **headers)
    assert response.status_code == 201, response.text
    return response.headers["Location"]


def send(client: FlaskClient, url: str, data: bytes, offset: int, **headers: str) -> TestResponse:
    given = TUS | {"Upload-Offset": str(offset)} | headers
    return client.patch(url, data=data, headers=given, content_type="application/offset+octet-stream")


def offset(client: FlaskClient, url: str) -> int:
    response = client.head(url, headers=TUS)
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    return int(response.headers["Upload-Offset"])


def checksum(name: str, data: bytes) -> dict[str, str]:
    digest = base64.b64encode(hashlib.new(name, data).digest()).decode()
    return {"Upload-Checksum": f"{name} {digest}"}


def age(database: Database, seconds: float) -> None:
    gone = UploadRow.expires_at - int(seconds * 1e6)
    database.write(lambda session: session.execute(update(UploadRow).values(expires_at=gone)))


@ONE_DATABASE
def test_options_tell_what_is_spoken(client: FlaskClient, rooms: Services) -> None:
    response = client.options("/v1/uploads")
    assert response.status_code == 200
    assert response.headers["Tus-Version"] == "1.0.0"
    assert response.headers["Tus-Max-Size"] == str(rooms.settings.max_archive_bytes)
    assert {"creation", "checksum", "termination", "expiration"} <= set(
        response.headers["Tus-Extension"].split(",")
    )
    assert "sha1" in response.headers["Tus-Checksum-Algorithm"].split(",")


def test_pieces_become_the_whole(client: FlaskClient, rooms: Services) -> None:
    name = base64.b64encode("시험.zip".encode()).decode()
    url = begun(client, **{"Upload-Metadata": f"filename {name},empty"})
    assert offset(client, url) == 0
    for start in range(0, len(DATA), 300):
        response = send(client, url, DATA[start : start + 300], start)
        assert (response.status_code, response.data) == (204, b"")
        assert int(response.headers["Upload-Offset"]) == min(start + 300, len(DATA))
        assert response.headers["Tus-Resumable"] == "1.0.0"
        assert response.headers["Upload-Expires"].endswith("GMT")
    assert [path.read_bytes() for path in blobs(rooms.settings)] == [DATA]
    found = client.get(url).get_json()
    assert (found["offset"], found["length"], found["filename"]) == (len(DATA), len(DATA), "시험.zip")
    assert client.head(url, headers=TUS).headers["Upload-Metadata"] == f"filename {name},empty"


def test_a_finished_upload_becomes_one_batch(client: FlaskClient, rooms: Services) -> None:
    name = base64.b64encode(b"study.zip").decode()
    url = begun(client, **{"Upload-Metadata": f"filename {name}"})
    upload_id = url.rpartition("/")[2]
    assert_problem(post_batch(client, upload_id=upload_id), 409, "upload-unfinished")
    send(client, url, DATA, 0)
    first = post_batch(client, upload_id=upload_id, question="Why?")
    assert first.status_code == 202
    batch = first.get_json()
    assert (batch["filename"], batch["media_type"], batch["size_bytes"]) == (
        "study.zip",
        "application/zip",
        len(DATA),
    )
    assert batch["defaults"] == {"question": "Why?"}
    again = post_batch(client, upload_id=upload_id, question="Why?")
    assert (again.status_code, again.get_json()["id"]) == (200, batch["id"])
    assert client.head(url, headers=TUS).status_code == 404
    assert len(blobs(rooms.settings)) == 1


@ONE_DATABASE
def test_what_arrived_outlives_a_restart(client: FlaskClient, start: Callable[..., Flask]) -> None:
    url = begun(client)
    send(client, url, DATA[:500], 0)
    other = start().test_client()
    assert offset(other, url) == 500
    assert send(other, url, DATA[500:], 500).status_code == 204


@ONE_DATABASE
def test_a_body_that_breaks_off_keeps_what_came(client: FlaskClient) -> None:
    url = begun(client)
    short = {"CONTENT_LENGTH": str(len(DATA)), "wsgi.input_terminated": True}
    response = client.patch(
        url,
        data=DATA[:700],
        headers=TUS | {"Upload-Offset": "0"},
        content_type="application/offset+octet-stream",
        environ_overrides=short,
    )
    assert_problem(response, 400, "invalid-request")
    assert offset(client, url) == 700
    assert send(client, url, DATA[700:], 700).status_code == 204


@ONE_DATABASE
def test_a_piece_may_end_exactly_where_the_upload_ends(client: FlaskClient) -> None:
    """Where the server ends the stream itself, as granian does."""
    url = begun(client)
    response = client.patch(
        url,
        data=DATA,
        headers=TUS | {"Upload-Offset": "0"},
        content_type="application/offset+octet-stream",
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert (response.status_code, offset(client, url)) == (204, len(DATA))


@ONE_DATABASE
@pytest.mark.parametrize("at", [0, 499, 501, 10**12])
def test_another_offset_is_a_conflict(client: FlaskClient, at: int) -> None:
    url = begun(client)
    send(client, url, DATA[:500], 0)
    assert_problem(send(client, url, b"x", at), 409, "offset-conflict")
    assert offset(client, url) == 500


@ONE_DATABASE
def test_more_than_was_announced_is_refused(client: FlaskClient) -> None:
    url = begun(client, 10)
    assert_problem(send(client, url, b"x" * 11, 0), 413, "upload-too-large")
    assert offset(client, url) == 0


@ONE_DATABASE
def test_too_large_an_upload_is_refused_before_it_comes(start: Callable[..., Flask]) -> None:
    client = start(max_archive_bytes=2000).test_client()
    assert_problem(begin(client, 2001), 413, "upload-too-large")
    assert begin(client, 2000).status_code == 201


@ONE_DATABASE
def test_so_many_uploads_and_no_more(start: Callable[..., Flask]) -> None:
    client = start(max_uploads=2).test_client()
    first = begun(client)
    begun(client)
    assert_problem(begin(client), 429, "too-many-requests")
    client.delete(first, headers=TUS)
    assert begin(client).status_code == 201


@ONE_DATABASE
@pytest.mark.parametrize(
    ("headers", "pointer"),
    [
        ({"Upload-Length": ""}, "/Upload-Length"),
        ({"Upload-Length": "0"}, "/Upload-Length"),
        ({"Upload-Length": "-1"}, "/Upload-Length"),
        ({"Upload-Length": "x"}, "/Upload-Length"),
        ({"Upload-Metadata": "filename ?"}, "/Upload-Metadata"),
        ({"Upload-Metadata": "a YQ==,a YQ=="}, "/Upload-Metadata"),
        ({"Upload-Metadata": "a " + "A" * 8000}, "/Upload-Metadata"),
    ],
)
def test_bad_headers_are_named(client: FlaskClient, headers: dict[str, str], pointer: str) -> None:
    given = TUS | {"Upload-Length": "10"} | headers
    assert_problem(client.post("/v1/uploads", headers=given), 400, "invalid-request", pointer)


@ONE_DATABASE
def test_no_length_is_refused(client: FlaskClient) -> None:
    assert_problem(client.post("/v1/uploads", headers=TUS), 400, "invalid-request", "/Upload-Length")


@ONE_DATABASE
@pytest.mark.parametrize("version", [{}, {"Tus-Resumable": "0.2.2"}])
def test_another_version_is_refused(client: FlaskClient, version: dict[str, str]) -> None:
    response = client.post("/v1/uploads", headers={"Upload-Length": "10"} | version)
    assert_problem(response, 412, "unsupported-tus-version")
    assert response.headers["Tus-Version"] == "1.0.0"


@ONE_DATABASE
def test_a_piece_has_its_own_media_type(client: FlaskClient) -> None:
    url = begun(client)
    response = client.patch(url, data=b"x", headers=TUS | {"Upload-Offset": "0"}, content_type="text/plain")
    assert_problem(response, 415, "unsupported-body")


@ONE_DATABASE
def test_a_piece_says_where_it_belongs(client: FlaskClient) -> None:
    url = begun(client)
    response = client.patch(url, data=b"x", headers=TUS, content_type="application/offset+octet-stream")
    assert_problem(response, 400, "invalid-request", "/Upload-Offset")


@ONE_DATABASE
def test_the_first_piece_may_come_with_the_creation(client: FlaskClient) -> None:
    response = client.post(
        "/v1/uploads",
        data=DATA[:100],
        headers=TUS | {"Upload-Length": str(len(DATA))},
        content_type="application/offset+octet-stream",
    )
    assert (response.status_code, response.headers["Upload-Offset"]) == (201, "100")


def test_one_request_writes_at_a_time(client: FlaskClient, database: Database) -> None:
    url = begun(client)
    with uploads.locked(database, url.rpartition("/")[2]):
        response = send(client, url, DATA, 0)
        assert_problem(response, 423, "upload-locked")
        assert response.headers["Retry-After"]
        assert_problem(client.delete(url, headers=TUS), 423, "upload-locked")
    assert send(client, url, DATA, 0).status_code == 204


def test_a_writer_that_fell_silent_is_replaced_and_cannot_come_back(
    client: FlaskClient, database: Database
) -> None:
    url = begun(client)
    hung = uploads.Lock(database, url.rpartition("/")[2])
    assert hung.take()
    expired = update(UploadRow).values(locked_until=1)
    database.write(lambda session: session.execute(expired))
    assert send(client, url, DATA[:10], 0).status_code == 204
    assert not hung.renew(60)
    hung.release()
    assert send(client, url, DATA[10:], 10).status_code == 204


@ONE_DATABASE
@pytest.mark.parametrize("name", ["sha1", "sha256", "md5"])
def test_a_right_checksum_is_accepted(client: FlaskClient, name: str, rooms: Services) -> None:
    url = begun(client)
    assert send(client, url, DATA[:600], 0, **checksum(name, DATA[:600])).status_code == 204
    assert send(client, url, DATA[600:], 600, **checksum(name, DATA[600:])).status_code == 204
    assert [path.read_bytes() for path in blobs(rooms.settings)] == [DATA]


@ONE_DATABASE
def test_a_wrong_checksum_keeps_nothing(client: FlaskClient, rooms: Services) -> None:
    url = begun(client)
    send(client, url, DATA[:600], 0)
    wrong = send(client, url, DATA[600:], 600, **checksum("sha1", b"other"))
    assert_problem(wrong, 460, "checksum-mismatch")
    assert offset(client, url) == 600
    assert len(blobs(rooms.settings)) == 1
    for bad in ("crc32 AAAA", "sha1", "sha1 ?"):
        response = send(client, url, DATA[600:], 600, **{"Upload-Checksum": bad})
        assert response.status_code in (400, 460)
    assert offset(client, url) == 600


def test_what_is_given_up_is_gone(client: FlaskClient, rooms: Services) -> None:
    url = begun(client)
    send(client, url, DATA, 0)
    response = client.delete(url, headers=TUS)
    assert (response.status_code, response.headers["Tus-Resumable"]) == (204, "1.0.0")
    assert blobs(rooms.settings) == []
    for again in (client.delete, client.head):
        assert again(url, headers=TUS).status_code == 404


@ONE_DATABASE
@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_a_method_may_be_named_in_a_header(client: FlaskClient, method: str) -> None:
    url = begun(client)
    headers = TUS | {"X-HTTP-Method-Override": method, "Upload-Offset": "0"}
    kind = "application/offset+octet-stream"
    assert client.post(url, data=DATA, headers=headers, content_type=kind).status_code == 204
    assert client.head(url, headers=TUS).status_code == (200 if method == "PATCH" else 404)
    assert client.post(url, headers=TUS).status_code in (404, 405)


def test_what_nobody_goes_on_with_is_forgotten(
    client: FlaskClient, database: Database, rooms: Services
) -> None:
    url = begun(client)
    send(client, url, DATA[:100], 0)
    assert uploads.expire(database, rooms.storage) == 0
    age(database, rooms.settings.upload_keep_s + 1)
    assert client.head(url, headers=TUS).status_code == 404
    assert uploads.expire(database, rooms.storage) == 1
    assert blobs(rooms.settings) == []


def test_what_a_batch_uses_is_not_forgotten_with_its_upload(
    client: FlaskClient, database: Database, rooms: Services
) -> None:
    url = begun(client)
    send(client, url, DATA, 0)
    row: Any = uploads.find(database, url.rpartition("/")[2], "")
    assert post_batch(client, upload_id=row.id).status_code == 202
    kept = {name: getattr(row, name) for name in ("id", "length", "created_at", "expires_at")}
    database.write(lambda session: session.add(UploadRow(**kept)))  # as if the server had died in between
    age(database, rooms.settings.upload_keep_s + 1)
    assert uploads.expire(database, rooms.storage) == 1
    assert len(blobs(rooms.settings)) == 1


@ONE_DATABASE
@pytest.mark.parametrize("name", ["nothing", "..", "0" * 36])
def test_an_upload_that_is_not_there(client: FlaskClient, name: str) -> None:
    assert client.get(f"/v1/uploads/{name}").status_code == 404
    assert send(client, f"/v1/uploads/{name}", b"x", 0).status_code == 404
