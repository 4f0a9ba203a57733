"""Blobs on S3, or whatever speaks its protocol: an object each, or a row of them if they grew (`s3_pieces`).

The server must know conditional writes (If-Match, If-None-Match) and ListObjectVersions, as S3, MinIO and Ceph do.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from email.utils import parsedate_to_datetime
from io import BufferedReader
from typing import Any, BinaryIO, cast

import boto3.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from shared.blob_keys import JOB_ID, checked, job_and_name, job_and_start, part_name, part_of
from shared.errors import NotFound, StorageUnavailable
from shared.s3_pieces import PIECE_BYTES, READ_BYTES, Piece, PieceReader, PieceWriter, in_a_row

AT_ONCE = 16  # objects that one call puts at the same time
PAGE = 1000  # objects that one request deletes
CONNECT_S, SILENCE_S, TRIES = 2.0, 10.0, 3
GONE = ("NoSuchKey", "404")


def connect() -> Any:
    """A client that any thread may use. boto3 finds address, region and credentials by itself, in AWS_ENDPOINT_URL_S3,
    AWS_REGION, AWS_ACCESS_KEY_ID and so on, in its files, or from the machine that it runs on."""
    config = Config(
        connect_timeout=CONNECT_S,
        read_timeout=SILENCE_S,
        retries={"mode": "standard", "total_max_attempts": TRIES},
        max_pool_connections=64,
        # Not every server knows the newer checksums.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return boto3.session.Session().client("s3", config=config)


class S3Storage:
    """Objects are called `prefix/part/job id/name`. Whatever was put is safe once `put` is back."""

    def __init__(self, client: Any, bucket: str, prefix: str = "") -> None:
        self._client, self._bucket = client, bucket
        self._prefix = f"{prefix}/" if prefix else ""

    def put(self, key: str, data: bytes) -> None:
        with _available():
            self._client.put_object(Bucket=self._bucket, Key=self._path(key), Body=data)

    def put_many(self, blobs: Mapping[str, bytes]) -> None:
        if not blobs:
            return
        with ThreadPoolExecutor(min(AT_ONCE, len(blobs)), "put") as pool:
            for done in [pool.submit(self.put, key, data) for key, data in blobs.items()]:
                done.result()

    def sync(self) -> None:
        """S3 answers a put when it is safe."""

    def append(self, key: str, offset: int, chunks: Iterable[bytes]) -> int:
        """What is not yet a whole piece is written when `chunks` end, or raise; a process that dies loses it."""
        writer = self._writer(key, offset)
        try:
            for chunk in chunks:
                writer.add(chunk)
        finally:
            writer.flush()
        return writer.end

    def size(self, key: str) -> int:
        return self._pieces(key)[-1].end

    def get(self, key: str) -> bytes:
        path = self._path(key)
        try:
            with _available(), closing(self._body(Key=path)) as body:
                return cast(bytes, body.read())
        except NotFound:
            with self.open(key) as file:
                return file.read()

    def open(self, key: str) -> BinaryIO:
        return BufferedReader(PieceReader(self._pieces(key), self._fetch), READ_BYTES)

    def exists(self, key: str) -> bool:
        try:
            return bool(self._pieces(key))
        except NotFound:
            return False

    def delete(self, key: str) -> None:
        path = self._path(key)
        self._delete(path, lambda found: _is_blob(found, path))

    def delete_prefix(self, prefix: str) -> None:
        job_id, start = job_and_start(prefix)
        self._delete(f"{self._folder(job_id)}{start}")

    def erase(self, job_id: str) -> None:
        self._delete(self._folder(job_id))

    def ages(self, part: int) -> dict[str, float]:
        """By the store's clock, which also says when a blob came."""
        folder = f"{self._prefix}{part_name(part)}/"
        found: dict[str, float] = {}
        for page in self._pages("list_objects_v2", folder):
            now = parsedate_to_datetime(page["ResponseMetadata"]["HTTPHeaders"]["date"])
            for one in page.get("Contents", ()):
                job_id = one["Key"].removeprefix(folder).partition("/")[0]
                age = (now - one["LastModified"]).total_seconds()
                if JOB_ID.fullmatch(job_id):
                    found[job_id] = min(age, found.get(job_id, age))
        return found

    def free_bytes(self) -> int | None:
        return None

    def check(self) -> None:
        key = f"check/{secrets.token_hex(8)}"
        self.put(key, b"")
        self.get(key)
        self.delete(key)

    def _writer(self, key: str, offset: int) -> PieceWriter:
        """One that goes on at `offset`; what lies beyond it is gone.

        Raises: ValueError
        """
        path = self._path(key)
        writer = PieceWriter(path, self._put_piece, offset)
        if offset == 0:
            self.delete(key)
            return writer
        listed = self._listed(path)
        kept = in_a_row(piece for piece in listed if piece.start < offset)
        end = kept[-1].end if kept else 0
        if end < offset or kept[0].path == path:
            raise ValueError(f"the blob has {end} bytes and cannot go on at {offset}")
        if beyond := {piece.path for piece in listed} - {piece.path for piece in kept}:
            self._delete(path, beyond.__contains__)
        last = kept[-1]
        if end > offset or last.size < PIECE_BYTES:
            writer.go_on(last, self._beginning(last, offset - last.start))
        return writer

    def _beginning(self, piece: Piece, size: int) -> bytes:
        with BufferedReader(PieceReader([replace(piece, start=0)], self._fetch)) as file:
            return file.read(size)

    def _put_piece(self, path: str, data: bytes, tag: str | None) -> None:
        condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
        with _available():
            self._client.put_object(Bucket=self._bucket, Key=path, Body=data, **condition)

    def _pieces(self, key: str) -> list[Piece]:
        """Of a blob, one or more. Raises: NotFound"""
        pieces = in_a_row(self._listed(self._path(key)))
        if not pieces:
            raise NotFound()
        return pieces

    def _listed(self, path: str) -> list[Piece]:
        """The object that was put, or else those that grew, in order."""
        pages = self._pages("list_objects_v2", path)
        objects = [
            Piece(one["Key"], int(one["Key"].removeprefix(path).strip("/") or 0), one["Size"], one["ETag"])
            for page in pages
            for one in page.get("Contents", ())
            if _is_blob(one["Key"], path)
        ]
        return [piece for piece in objects if piece.path == path] or objects

    def _fetch(self, piece: Piece, offset: int) -> Any:
        with _available():
            return _Body(self._body(Key=piece.path, Range=f"bytes={offset}-", IfMatch=piece.tag))

    def _body(self, **which: str) -> Any:
        return self._client.get_object(Bucket=self._bucket, **which)["Body"]

    def _delete(self, start: str, which: Callable[[str], bool] = lambda path: True) -> None:
        """With every version that the bucket keeps: what is erased must be gone."""
        doomed = [
            {"Key": one["Key"], "VersionId": one["VersionId"]}
            for page in self._pages("list_object_versions", start)
            for one in (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
            if which(one["Key"])
        ]
        for first in range(0, len(doomed), PAGE):
            some = {"Objects": doomed[first : first + PAGE], "Quiet": True}
            with _available():
                answer = self._client.delete_objects(Bucket=self._bucket, Delete=some)
            if failed := answer.get("Errors"):
                raise StorageUnavailable(f"The blob store did not delete: {failed[0].get('Code')}.")

    def _pages(self, listing: str, start: str) -> Iterator[Any]:
        with _available():
            pages = iter(self._client.get_paginator(listing).paginate(Bucket=self._bucket, Prefix=start))
        while True:
            with _available():
                page = next(pages, None)
            if page is None:
                return
            yield page

    def _folder(self, job_id: str) -> str:
        return f"{self._prefix}{part_of(checked(job_id))}/{job_id}/"

    def _path(self, key: str) -> str:
        job_id, name = job_and_name(key)
        return f"{self._folder(job_id)}{name}"


class _Body:
    """An object's bytes as they come; what breaks off is the store's failure."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def read(self, size: int) -> bytes:
        with _available():
            return cast(bytes, self._body.read(size))

    def close(self) -> None:
        self._body.close()


def _is_blob(path: str, blob: str) -> bool:
    return path == blob or path.startswith(f"{blob}/")


@contextmanager
def _available() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in GONE:
            raise NotFound() from error
        raise StorageUnavailable(f"The blob store failed: {code}.") from error
    except (BotoCoreError, HTTPError, OSError) as error:
        raise StorageUnavailable(f"The blob store failed: {type(error).__name__}.") from error
