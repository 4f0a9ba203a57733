"""Blobs in a folder: a file each, all or nothing."""

import ctypes
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from shared.blob_keys import JOB_ID, checked, job_and_name, job_and_start, part_name, part_of
from shared.errors import NotFound, StorageUnavailable


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
                try:
                    for chunk in chain(chunks, [b""]):
                        _check_end(file)
                        _cut(file, offset)
                        _write_all(file, chunk)
                        offset = file.tell()
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
        job_id, start = job_and_start(prefix)
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
        with _available(), suppress(FileNotFoundError), os.scandir(self.root / part_name(part)) as folders:
            for folder in folders:
                if not JOB_ID.fullmatch(folder.name):
                    continue
                with suppress(FileNotFoundError):  # erased just now
                    found[folder.name] = now - folder.stat().st_mtime
        return found

    def free_bytes(self) -> int | None:
        try:
            return shutil.disk_usage(self.root).free
        except OSError:  # not made yet, or away, which whoever writes will hear
            return None

    def check(self) -> None:
        key = f"check/{secrets.token_hex(8)}"
        self.put(key, b"")
        self.delete(key)

    def _folder(self, job_id: str) -> Path:
        return self.root / part_of(checked(job_id)) / job_id

    def _path(self, key: str) -> Path:
        return Path(self._plain_path(key))

    def _plain_path(self, key: str) -> str:
        job_id, _ = job_and_name(key)
        return f"{self.root}/{part_of(job_id)}/{key}"

    def _names(self, job_id: str) -> list[Path]:
        with suppress(FileNotFoundError):
            return list(self._folder(job_id).iterdir())
        return []


def _write(path: Path, data: bytes, *, durable: bool) -> None:
    """To the disk itself if durable: a job whose row survives a power cut must still have its picture."""
    with path.open("xb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())


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


def _check_end(file: FileIO) -> None:
    """Whoever comes back to find more or less than he left has lost his place to somebody else."""
    if os.fstat(file.fileno()).st_size != file.tell():
        raise StorageUnavailable("Somebody else wrote the blob meanwhile.")


def _cut(file: FileIO, offset: int) -> None:
    """Not before there is something to write: what was there may be what is written again."""
    if file.tell() > offset:
        file.truncate(offset)
        file.seek(offset)


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
