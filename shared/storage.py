"""Blobs by job: every key is `job id/name`, no two jobs share one, so that erasing one never hurts another."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from shared.blob_keys import PART
from shared.errors import SettingsError
from shared.folder_storage import FolderStorage
from shared.sealed_storage import SealedStorage
from shared.sealing import Keyring
from shared.settings import Settings

BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
PREFIX = re.compile(f"{PART}(/{PART})*")


class Storage(Protocol):
    """Where images and artifacts lie. Every method raises StorageUnavailable when the store does not answer or
    is full, and ValueError for a key that is not `job id/name`. No method belongs into a transaction."""

    def put(self, key: str, data: bytes) -> None:
        """Write all or nothing; what was there is replaced."""

    def put_many(self, blobs: Mapping[str, bytes]) -> None:
        """Write blobs that nobody knows of yet: they are whole, and safe from a power cut, after `sync`."""

    def sync(self) -> None:
        """Wait until everything that was put is safe."""

    def append(self, key: str, offset: int, chunks: Iterable[bytes]) -> int:
        """Write at the end of a blob that grows, and make it at offset 0; its size after that.

        What arrived stays when `chunks` raises: whoever sends it goes on from `size`. Beyond `offset` nothing
        is kept, so that a piece that was cut short can be sent again. A blob that was put does not grow.

        Raises: ValueError if the blob is shorter than `offset`; StorageUnavailable, too, once somebody else has
        written behind this one's back
        """

    def size(self, key: str) -> int:
        """Raises: NotFound"""

    def get(self, key: str) -> bytes:
        """Raises: NotFound"""

    def open(self, key: str) -> BinaryIO:
        """For streaming and seeking, in constant memory; the caller closes it. Raises: NotFound"""

    def exists(self, key: str) -> bool: ...

    def delete(self, key: str) -> None:
        """What is not there is already deleted."""

    def delete_prefix(self, prefix: str) -> None:
        """Delete a job's blobs whose keys begin with `job id/` and any further letters."""

    def erase(self, job_id: str) -> None:
        """Delete everything of a job."""

    def ages(self, part: int) -> dict[str, float]:
        """Whose blobs lie in one of the PARTS of the store, and how many seconds ago one came last."""

    def free_bytes(self) -> int | None:
        """Bytes that may still be put; None where nobody can tell."""

    def check(self) -> None:
        """Prove that the store can be written and read, for /readyz."""


def open_storage(url: str, *, durable: bool = True) -> Storage:
    """The store that a setting names: a folder's path, `file:///…`, or `s3://bucket/prefix`.

    Without `durable` a single blob's last second may be lost to a power cut, though never to a killed process.

    Raises: SettingsError for other schemes
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path:
        return FolderStorage(Path(unquote(parts.path)), durable=durable)
    if parts.scheme == "s3":
        return _open_s3(url)
    if "://" in url or parts.scheme == "file" or not url:
        raise SettingsError(
            f"{url!r} is not a storage this version supports: give a folder, file:///folder or s3://bucket/prefix."
        )
    return FolderStorage(Path(url), durable=durable)


def storage_of(settings: Settings) -> Storage:
    """The store that all of the settings ask for. Raises: SettingsError"""
    storage = open_storage(settings.storage_location, durable=settings.durable)
    if not settings.blob_keys:
        return storage
    return SealedStorage(storage, Keyring(settings.sealing_keys), reads_plain=settings.plain_blobs == "read")


def _open_s3(url: str) -> Storage:
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    prefix = prefix.strip("/")
    if not BUCKET.fullmatch(bucket) or (prefix and not PREFIX.fullmatch(prefix)):
        raise SettingsError(f"{url!r} is not s3://bucket or s3://bucket/prefix.")
    from shared.s3_storage import S3Storage, connect  # boto3 takes 40 MB, for those who use it

    return S3Storage(connect(), bucket, prefix)
