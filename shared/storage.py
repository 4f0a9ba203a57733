"""Blobs by job: every key is `job id/name`, no two jobs share one, so that erasing one never hurts another."""

import ctypes
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from shared.errors import NotFound, SettingsError, StorageUnavailable

# No separator, no leading dot: neither `..`, a hidden file nor our own temporary files can be named.
PART = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"
KEY = re.compile(f"({PART})/({PART})")
JOB_ID = re.compile(PART)


PARTS = 256


class Storage(Protocol):
    """Where images and artifacts lie. Every method raises StorageUnavailable when the store does not answer,
    and ValueError for a key that is not `job id/name`."""

    def put(self, key: str, data: bytes) -> None:
        """Write all or nothing; what was there is replaced."""

    def put_many(self, blobs: Mapping[str, bytes]) -> None:
        """Write blobs that nobody knows of yet: they are whole, and safe from a power cut, after `sync`."""

    def sync(self) -> None:
        """Wait until everything that was put is on the disk."""

    def append(self, key: str, offset: int, chunks: Iterable[bytes]) -> int:
        """Write at the end of a blob that grows, and make it at offset 0; its size after that.

        What arrived stays when `chunks` raises: whoever sends it goes on from `size`. Beyond `offset` nothing
        is kept, so that a piece that was cut short can be sent again.

        Raises: ValueError if the blob is shorter than `offset`
        """

    def size(self, key: str) -> int:
        """Raises: NotFound"""

    def get(self, key: str) -> bytes:
        """Raises: NotFound"""

    def open(self, key: str) -> BinaryIO:
        """For streaming and seeking; the caller closes it. Raises: NotFound"""

    def exists(self, key: str) -> bool: ...

    def delete(self, key: str) -> None:
        """What is not there is already deleted."""

    def delete_prefix(self, prefix: str) -> None:
        """Delete a job's blobs whose keys begin with `job id/` and any further letters."""

    def erase(self, job_id: str) -> None:
        """Delete everything of a job."""

    def ages(self, part: int) -> dict[str, float]:
        """Whose blobs lie in one of the PARTS of the store, and how many seconds ago one came last."""

    def check(self) -> None:
        """Prove that the store can be written and read, for /readyz."""


class FolderStorage:
    """A folder with a level of PARTS between it and the jobs, so that no folder holds all of them."""

    def __init__(self, root: Path, *, durable: bool = True) -> None:
        self.root = root
        self._durable = durable

    def put(self, key: str, data: bytes) -> None:
        path = self._path(key)
        # A name of its own for each writer, and a leading dot, which no key has.
        draft = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}")
        with _available():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                _write(draft, data, durable=self._durable)
                draft.replace(path)
            except FileNotFoundError as error:
                raise StorageUnavailable("The job was erased while its blob was written.") from error
            finally:
                draft.unlink(missing_ok=True)

    def put_many(self, blobs: Mapping[str, bytes]) -> None:
        with _available():
            for key, data in blobs.items():
                folder, _, name = self._plain_path(key).rpartition("/")
                with suppress(FileExistsError):
                    _make_folder(folder)
                _overwrite(f"{folder}/{name}", data)

    def sync(self) -> None:
        """One wait for the disk instead of one for each of some hundreds of files. Source: syncfs(2)."""
        with _available():
            handle = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
            try:
                if _LIBC.syncfs(handle):
                    raise OSError(ctypes.get_errno(), "syncfs failed")
            finally:
                os.close(handle)

    def append(self, key: str, offset: int, chunks: Iterable[bytes]) -> int:
        path = self._path(key)
        with _available():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Without a buffer: what a hung writer held back would come out behind what its successor wrote.
            with path.open("ab" if offset else "wb", buffering=0) as file:
                if file.tell() < offset:
                    raise ValueError(f"the blob has {file.tell()} bytes, and cannot go on at {offset}")
                file.truncate(offset)
                file.seek(offset)
                try:
                    for chunk in chunks:
                        _write_all(file, chunk)
                finally:
                    os.fsync(file.fileno())
                return file.tell()

    def size(self, key: str) -> int:
        with _available():
            return self._path(key).stat().st_size

    def get(self, key: str) -> bytes:
        with _available():
            return self._path(key).read_bytes()

    def open(self, key: str) -> BinaryIO:
        with _available():
            return self._path(key).open("rb")

    def exists(self, key: str) -> bool:
        with _available():
            return self._path(key).is_file()

    def delete(self, key: str) -> None:
        with _available():
            self._path(key).unlink(missing_ok=True)

    def delete_prefix(self, prefix: str) -> None:
        job_id, slash, start = prefix.partition("/")
        if not slash:  # a job id without its slash would be the beginning of other jobs' ids too
            raise ValueError(f"a prefix is 'job id/' and the beginning of a name, not {prefix!r}")
        with _available():
            for path in self._names(job_id):
                if path.name.startswith(start):
                    path.unlink(missing_ok=True)

    def erase(self, job_id: str) -> None:
        folder = self._folder(job_id)
        with _available(), suppress(FileNotFoundError):
            shutil.rmtree(folder)

    def ages(self, part: int) -> dict[str, float]:
        now = time.time()
        found = {}
        with _available(), suppress(FileNotFoundError), os.scandir(self.root / f"{part:02x}") as folders:
            for folder in folders:
                if not JOB_ID.fullmatch(folder.name):
                    continue
                with suppress(FileNotFoundError):  # erased just now
                    found[folder.name] = now - folder.stat().st_mtime
        return found

    def check(self) -> None:
        key = f"check/{secrets.token_hex(8)}"
        self.put(key, b"")
        self.delete(key)

    def _folder(self, job_id: str) -> Path:
        if not JOB_ID.fullmatch(job_id):
            raise ValueError(f"not a job id: {job_id!r}")
        return self.root / _shard(job_id) / job_id

    def _path(self, key: str) -> Path:
        return Path(self._plain_path(key))

    def _plain_path(self, key: str) -> str:
        match = KEY.fullmatch(key)
        if not match:
            raise ValueError(f"a key is 'job id/name', not {key!r}")
        return f"{self.root}/{_shard(match[1])}/{key}"

    def _names(self, job_id: str) -> list[Path]:
        with suppress(FileNotFoundError):
            return list(self._folder(job_id).iterdir())
        return []


def open_storage(url: str, *, durable: bool = True) -> Storage:
    """The store that a setting names: a folder's path, or `file:///…`.

    Without `durable` a single blob's last second may be lost to a power cut, though never to a killed process.

    Raises: SettingsError for other schemes
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path:
        return FolderStorage(Path(unquote(parts.path)), durable=durable)
    if "://" in url or parts.scheme == "file" or not url:
        raise SettingsError(
            f"{url!r} is not a storage this version supports: give a folder or file:///folder."
        )
    return FolderStorage(Path(url), durable=durable)


def free_bytes(storage: Storage) -> int | None:
    """Bytes that may still be put; None where nobody can tell."""
    if not isinstance(storage, FolderStorage):
        return None
    try:
        return shutil.disk_usage(storage.root).free
    except OSError:  # not made yet, or away, which whoever writes will hear
        return None


def _write(path: Path, data: bytes, *, durable: bool) -> None:
    """To the disk itself if durable: a job whose row survives a power cut must still have its picture."""
    with path.open("xb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())


def _shard(job_id: str) -> str:
    """Ids begin with the time, so their own letters would put a day's jobs into one folder."""
    return hashlib.sha256(job_id.encode()).hexdigest()[:2]


def _make_folder(folder: str) -> None:
    try:
        os.mkdir(folder)  # noqa: PTH102, a Path of its own costs more than the call
    except FileNotFoundError:
        Path(folder).mkdir(parents=True, exist_ok=True)


def _overwrite(path: str, data: bytes) -> None:
    """By the bare calls: opening a file object costs as much as writing a small picture."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        while data:
            data = data[os.write(handle, data) :]
    finally:
        os.close(handle)


_LIBC = ctypes.CDLL(None, use_errno=True)


def _write_all(file: FileIO, data: bytes) -> None:
    """A file without a buffer may take less than it is given."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


@contextmanager
def _available() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound() from error
    except OSError as error:
        raise StorageUnavailable(f"The blob store failed: {error.strerror or error}.") from error
