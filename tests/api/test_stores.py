"""The API with its blobs on S3, or encrypted: a job, an archive in pieces, and what erasing leaves."""

import base64
from collections.abc import Callable

import pytest
from flask import Flask

from tests.api.batching import pictures, post_batch, zipped
from tests.api.driving import JPEG, ONE_DATABASE, assert_problem, blobs, post, submitted
from tests.api.test_uploads import begun, checksum, offset, send
from tests.s3 import Bucket

pytestmark = ONE_DATABASE


def test_a_jobs_picture_comes_back_and_goes_for_good(start: Callable[..., Flask], bucket: Bucket) -> None:
    client = start(storage_url=bucket.url).test_client()
    assert client.get("/readyz").status_code == 200
    job = submitted(client)
    assert bucket.data() == [JPEG]
    response = client.get(f"/v1/jobs/{job['id']}/artifacts/image")
    assert (response.status_code, response.data, response.content_length) == (200, JPEG, len(JPEG))
    client.post(f"/v1/jobs/{job['id']}/cancel")
    again = client.post(f"/v1/jobs/{job['id']}/rerun").get_json()
    assert bucket.data() == [JPEG, JPEG]
    for one in (job, again):
        assert client.delete(f"/v1/jobs/{one['id']}").status_code == 204
    assert bucket.listed() == []
    assert_problem(client.get(f"/v1/jobs/{job['id']}/artifacts/image"), 404, "not-found")


def test_an_archive_arrives_in_pieces(
    start: Callable[..., Flask], bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.s3_pieces.PIECE_BYTES", 1000)
    monkeypatch.setattr("shared.s3_storage.PIECE_BYTES", 1000)
    client, data = start(storage_url=bucket.url).test_client(), zipped(pictures(2))
    url = begun(client, len(data))
    assert offset(client, url) == 0
    for at in range(0, len(data), 700):
        piece = data[at : at + 700]
        given = checksum("sha256", piece) if at == 1400 else {}
        response = send(client, url, piece, at, **given)
        assert int(response.headers["Upload-Offset"]) == at + len(piece)
    assert b"".join(bucket.data()) == data
    manifest = ("manifest.csv", b"filename,question\n0.jpg,Why?\n")
    batch = post_batch(client, upload_id=url.rpartition("/")[2], manifest=manifest)
    assert (batch.status_code, batch.get_json()["size_bytes"]) == (202, len(data))
    assert b"".join(bucket.data()) == data + manifest[1]
    given_up = begun(client, 10)
    send(client, given_up, b"12345", 0)
    assert client.delete(given_up, headers={"Tus-Resumable": "1.0.0"}).status_code == 204
    assert b"".join(bucket.data()) == data + manifest[1]


def test_a_bucket_that_is_away_refuses_a_job_and_names_the_store(
    start: Callable[..., Flask], bucket: Bucket
) -> None:
    client = start(storage_url="s3://there-is-none/blobs").test_client()
    assert "storage" in assert_problem(client.get("/readyz"), 503, "service-unavailable")["detail"]
    assert_problem(post(client), 503, "service-unavailable")
    assert client.get("/v1/jobs").get_json()["items"] == []


def test_a_picture_that_is_stored_encrypted_is_shown_until_it_is_changed(start: Callable[..., Flask]) -> None:
    key = base64.b64encode(bytes(32)).decode()
    client = (app := start(blob_keys=key)).test_client()
    job = submitted(client)
    (stored,) = blobs(app.extensions["medq"].settings)
    assert JPEG[100:110] not in stored.read_bytes()
    url = f"/v1/jobs/{job['id']}/artifacts/image"
    assert client.get(url).data == JPEG
    stored.write_bytes(stored.read_bytes()[:-1])
    response = assert_problem(client.get(url), 500, "service-error")
    assert str(stored.parent) not in response["detail"]
    other = start(blob_keys=base64.b64encode(bytes(range(32))).decode()).test_client()
    assert "MEDQ" not in assert_problem(other.get(url), 503, "service-unavailable")["detail"]


def test_an_encrypted_archive_arrives_in_pieces(start: Callable[..., Flask]) -> None:
    client = (app := start(blob_keys=base64.b64encode(bytes(32)).decode())).test_client()
    data = zipped(pictures(2))
    url = begun(client, len(data))
    for at in range(0, len(data), 7_000):
        piece = data[at : at + 7_000]
        given = checksum("sha256", piece) if at == 7_000 else {}
        assert int(send(client, url, piece, at, **given).headers["Upload-Offset"]) == at + len(piece)
    storage = app.extensions["medq"].storage
    assert storage.get(f"{url.rpartition('/')[2]}/archive") == data
    batch = post_batch(client, upload_id=url.rpartition("/")[2])
    assert (batch.status_code, batch.get_json()["size_bytes"]) == (202, len(data))
    assert not any(data[:30] in path.read_bytes() for path in blobs(app.extensions["medq"].settings))
