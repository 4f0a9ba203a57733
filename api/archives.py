"""Takes bytes of an archive in: to the store as they arrive, hashed on the way, refused at once if they are none."""

import hashlib
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import IO

import structlog

from api.multipart import CHUNK_BYTES
from api.services import Services
from shared.errors import InvalidRequest, StorageUnavailable, UnsupportedArchive, UploadTooLarge
from shared.storage import Storage

ARCHIVE = "archive"  # the blob's name
HEAD_BYTES = tarfile.BLOCKSIZE  # what tells the kinds apart
MAGIC = {
    b"PK\x03\x04": "application/zip",
    b"PK\x05\x06": "application/zip",  # without a single entry
    b"\x1f\x8b": "application/gzip",
    b"\x28\xb5\x2f\xfd": "application/zstd",
}

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Arrived:
    """An archive in the store."""

    media_type: str
    size_bytes: int
    sha256: str | None  # None: it came in pieces, and no process saw them all


def receive(room: Services, batch_id: str, chunks: Iterator[bytes]) -> Arrived:
    """Store an archive that arrives in one piece.

    Raises: TooManyRequests, UnsupportedArchive, UploadTooLarge, StorageUnavailable, what `chunks` raises;
    whoever made up the id erases what is left behind
    """
    room.pressure.admit_bytes()
    head, rest = _peek(chunks)
    media_type = kind_of(head)
    digest = hashlib.sha256()
    size = room.storage.append(
        key(batch_id), 0, hashed(limited(rest, room.settings.max_archive_bytes), digest)
    )
    return Arrived(media_type, size, digest.hexdigest())


def arrived(storage: Storage, batch_id: str) -> Arrived:
    """An archive whose last piece is in the store.

    Raises: UnsupportedArchive
    """
    with storage.open(key(batch_id)) as file:
        return Arrived(kind_of(file.read(HEAD_BYTES)), storage.size(key(batch_id)), None)


def kind_of(head: bytes) -> str:
    """The media type that the first bytes prove, whatever the client called them.

    Raises: UnsupportedArchive
    """
    for magic, media_type in MAGIC.items():
        if head.startswith(magic):
            return media_type
    with suppress(tarfile.HeaderError):
        tarfile.TarInfo.frombuf(head[:HEAD_BYTES], "utf-8", "surrogateescape")
        return "application/x-tar"
    raise UnsupportedArchive()


def pieces(stream: IO[bytes], length: int | None) -> Iterator[bytes]:
    """A body's bytes; the server ends one that breaks off like one that is complete.

    Raises: InvalidRequest when fewer than `length` bytes came
    """
    came = 0
    while chunk := stream.read(CHUNK_BYTES):
        came += len(chunk)
        yield chunk
    if length is not None and came < length:
        raise InvalidRequest(f"The body broke off after {came:,} of {length:,} bytes.")


def limited(chunks: Iterator[bytes], most: int) -> Iterator[bytes]:
    """Raises: UploadTooLarge before the first byte too many"""
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > most:
            raise UploadTooLarge(f"At most {most:,} bytes are accepted here.")
        yield chunk


def hashed(chunks: Iterator[bytes], digest: "hashlib._Hash") -> Iterator[bytes]:
    for chunk in chunks:
        digest.update(chunk)
        yield chunk


def key(batch_id: str) -> str:
    return f"{batch_id}/{ARCHIVE}"


def forget(storage: Storage, batch_id: str) -> None:
    """Erase what arrived for a batch that did not come about."""
    try:
        storage.erase(batch_id)
    except StorageUnavailable:
        log.error("blob_left_behind", batch_id=batch_id)


def _peek(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes, and all bytes."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= HEAD_BYTES:
            break
    return head, chain([head], chunks)
