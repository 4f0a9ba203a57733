"""Blobs on S3: what only S3 does. What every store does is tests/shared/test_storage.py's."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError, IncompleteReadError
from botocore.paginate import Paginator
from botocore.stub import Stubber

import shared.s3_pieces
from shared.errors import NotFound, StorageUnavailable
from shared.s3_pieces import Piece, PieceReader, in_a_row
from shared.s3_storage import S3Storage, connect
from tests.s3 import Bucket

JOB = "0198c6f0-1b2c-7d3e-8f4a-5b6c7d8e9f00"
KEY = f"{JOB}/archive"


@pytest.fixture(autouse=True)
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared.s3_pieces, "PIECE_BYTES", 10)
    monkeypatch.setattr("shared.s3_storage.PIECE_BYTES", 10)
    monkeypatch.setattr(shared.s3_pieces, "SKIP_BYTES", 3)


@pytest.fixture
def storage(bucket: Bucket) -> S3Storage:
    return S3Storage(bucket.client, bucket.name, "blobs")


def test_a_blob_grows_as_a_row_of_full_pieces(storage: S3Storage, bucket: Bucket) -> None:
    data = bytes(range(97))
    for start in range(0, 97, 7):  # whatever the size of what arrives
        storage.append(KEY, start, [data[start : start + 3], data[start + 3 : start + 7]])
    assert [len(piece) for piece in bucket.data()] == [10] * 9 + [7]
    assert storage.get(KEY) == data
    assert storage.append(KEY, 45, [b"end"]) == 48
    assert storage.get(KEY) == data[:45] + b"end"
    assert len(bucket.listed()) == 5


def test_a_blob_in_pieces_is_read_from_any_place(storage: S3Storage) -> None:
    data, chance = random.Random(7).randbytes(95), random.Random(8)
    storage.append(KEY, 0, [data])
    with storage.open(KEY) as file:
        for _ in range(60):
            at, size = chance.randrange(100), chance.randrange(1, 30)
            file.seek(at)
            assert file.read(size) == data[at : at + size]


def test_only_what_follows_without_a_gap_counts(storage: S3Storage, bucket: Bucket) -> None:
    storage.append(KEY, 0, [bytes(35)])
    bucket.client.delete_object(Bucket=bucket.name, Key=bucket.listed()[1])
    assert storage.size(KEY) == 10
    storage.append(KEY, 10, [b"1234567890" * 2])
    assert storage.get(KEY) == bytes(10) + b"1234567890" * 2
    assert in_a_row([Piece("a", 5, 5, "")]) == []


def test_a_writer_that_hung_cannot_write_over_its_successor(storage: S3Storage) -> None:
    def hung() -> Iterator[bytes]:
        yield b"tiny"
        assert storage.append(KEY, 5, [b" and more"]) == 14
        raise TimeoutError

    storage.append(KEY, 0, [b"first"])
    with pytest.raises(StorageUnavailable, match="PreconditionFailed"):
        storage.append(KEY, 5, hung())
    assert storage.get(KEY) == b"first and more"


def test_two_writers_of_the_same_new_piece_do_not_mix(storage: S3Storage) -> None:
    def slow() -> Iterator[bytes]:
        yield b"slow"
        storage.append(KEY, 10, [b"fast one"])
        yield b"slowly"

    storage.append(KEY, 0, [bytes(10)])
    with pytest.raises(StorageUnavailable):
        storage.append(KEY, 10, slow())
    assert storage.get(KEY) == bytes(10) + b"fast one"


def test_a_blob_that_was_put_does_not_grow(storage: S3Storage) -> None:
    storage.put(KEY, b"whole")
    with pytest.raises(ValueError, match="cannot go on"):
        storage.append(KEY, 5, [b"more"])
    assert storage.append(KEY, 0, [b"new"]) == 3
    assert storage.get(KEY) == b"new"
    storage.put(KEY, b"whole again")
    assert storage.get(KEY) == b"whole again"
    assert storage.size(KEY) == 11


def test_what_is_erased_is_gone_with_all_its_versions(bucket: Bucket) -> None:
    versioned = Bucket(bucket.client, versioned=True)
    storage = S3Storage(bucket.client, versioned.name)
    for data in (b"one", b"two"):
        storage.put(f"{JOB}/image", data)
        storage.append(KEY, 0, [bytes(25)])
    bucket.client.delete_object(Bucket=versioned.name, Key=versioned.listed()[0])
    storage.put(f"{JOB}/mask", b"x")
    storage.delete(f"{JOB}/mask")
    storage.erase(JOB)
    assert versioned.versions() == 0


def test_a_row_longer_than_a_page_is_listed_and_erased(
    storage: S3Storage, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    paginate = Paginator.paginate
    short = {"PaginationConfig": {"PageSize": 5}}
    monkeypatch.setattr(Paginator, "paginate", lambda pages, **given: paginate(pages, **given, **short))
    monkeypatch.setattr("shared.s3_storage.PAGE", 4)
    storage.append(KEY, 0, [bytes(115)])
    assert storage.size(KEY) == 115
    storage.erase(JOB)
    assert bucket.listed() == []


def test_a_bucket_that_is_not_there_is_a_store_that_is_away(bucket: Bucket) -> None:
    storage = S3Storage(bucket.client, "another-bucket")
    for use in (
        lambda: storage.put(f"{JOB}/image", b"x"), lambda: storage.append(KEY, 0, [b"x"]),
        lambda: storage.size(KEY), lambda: storage.get(KEY), lambda: storage.open(KEY), lambda: storage.exists(KEY),
        lambda: storage.erase(JOB), lambda: storage.ages(0), storage.check,
    ):  # fmt: skip
        with pytest.raises(StorageUnavailable, match="NoSuchBucket"):
            use()


def test_a_server_that_is_away_is_told_after_a_few_tries(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    client = connect()
    storage, tried = S3Storage(client, bucket.name), []
    client.meta.events.register("before-send.s3", lambda **given: tried.append(given["request"].method))
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)
    with pytest.raises(StorageUnavailable, match=EndpointConnectionError.__name__):
        storage.put(f"{JOB}/image", b"x")
    assert tried == ["PUT"] * 3
    client.close()


def test_a_full_store_and_what_it_would_not_delete_are_told(bucket: Bucket) -> None:
    client = connect()
    storage, path = S3Storage(client, "bucket"), f"x/{JOB}/image"
    with Stubber(client) as stub:
        stub.add_client_error("put_object", "XMinioStorageFull", http_status_code=507)
        with pytest.raises(StorageUnavailable, match="XMinioStorageFull"):
            storage.put(f"{JOB}/image", b"x")
        stub.add_response("list_object_versions", {"Versions": [{"Key": path, "VersionId": "1"}]})
        stub.add_response("delete_objects", {"Errors": [{"Key": path, "Code": "AccessDenied"}]})
        with pytest.raises(StorageUnavailable, match="AccessDenied"):
            storage.erase(JOB)
    client.close()


class Bodies:
    """Objects whose bodies break off as often as `faults` says."""

    def __init__(self, data: bytes, faults: int) -> None:
        self.data, self.faults, self.opened, self.open = data, faults, 0, 0

    def fetch(self, piece: Piece, offset: int) -> "Body":
        self.opened += 1
        self.open += 1
        return Body(self, piece.start + offset, piece.end)


class Body:
    def __init__(self, bodies: Bodies, at: int, end: int) -> None:
        self._bodies, self._at, self._end = bodies, at, end

    def read(self, size: int) -> bytes:
        if self._bodies.faults:
            self._bodies.faults -= 1
            raise StorageUnavailable("broken off")
        start, self._at = self._at, min(self._at + size, self._end)
        return self._bodies.data[start : self._at]

    def close(self) -> None:
        self._bodies.open -= 1


def test_a_body_that_breaks_off_is_fetched_again_once() -> None:
    pieces = [Piece("a", 0, 10, ""), Piece("b", 10, 10, "")]
    once, twice = Bodies(bytes(range(20)), 1), Bodies(bytes(20), 2)
    with PieceReader(pieces, once.fetch) as file:
        assert file.read() == bytes(range(20))
    assert (once.opened, once.open) == (3, 0)
    with PieceReader(pieces, twice.fetch) as file, pytest.raises(StorageUnavailable):
        file.read(1)
    assert twice.open == 0


def test_a_short_way_ahead_costs_no_request() -> None:
    bodies = Bodies(bytes(range(100)), 0)
    with PieceReader([Piece("a", 0, 100, "")], bodies.fetch) as file:
        assert file.read(2) == bytes([0, 1])
        file.seek(5)
        assert file.read(2) == bytes([5, 6])
        assert bodies.opened == 1
        file.seek(50)
        file.read(1)
        file.seek(0)
        file.read(1)
        assert bodies.opened == 3
        with pytest.raises(ValueError, match="nothing at -1"):
            file.seek(-1)


def test_an_object_that_breaks_off_is_the_stores_failure(
    bucket: Bucket, storage: S3Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.put(f"{JOB}/image", b"x")

    def short(body: Any, size: int | None = None) -> bytes:
        raise IncompleteReadError(actual_bytes=1, expected_bytes=2)

    monkeypatch.setattr("botocore.response.StreamingBody.read", short)
    with pytest.raises(StorageUnavailable):
        storage.get(f"{JOB}/image")
    with storage.open(f"{JOB}/image") as file, pytest.raises(StorageUnavailable):
        file.read()


def test_what_is_replaced_while_it_is_read_does_not_mix(storage: S3Storage) -> None:
    storage.put(f"{JOB}/image", b"0123456789" * 2)
    with storage.open(f"{JOB}/image") as file:
        storage.put(f"{JOB}/image", b"9876543210" * 2)
        with pytest.raises(StorageUnavailable, match="PreconditionFailed"):
            file.read()
    with storage.open(f"{JOB}/image") as file:
        storage.erase(JOB)
        with pytest.raises(NotFound):
            file.read()
