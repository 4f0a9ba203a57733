"""Archives to send: a file as it is, or a folder as a tar that is made while it is sent and begins anywhere."""

import bisect
import hashlib
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

CHUNK_BYTES = 256 * 1024
END = bytes(2 * tarfile.BLOCKSIZE)


class Source(Protocol):
    """Bytes that can be sent again from any offset; `identity` changes when they do."""

    name: str
    size: int
    identity: str

    def read(self, offset: int) -> Iterator[bytes]:
        """Raises: OSError"""


class FileSource:
    def __init__(self, path: Path) -> None:
        status = path.stat()
        self._path = path
        self.name = utf8_name(path.name)
        self.size = status.st_size
        self.identity = _hash(f"{path.resolve()} {status.st_size} {status.st_mtime_ns}")

    def read(self, offset: int) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            file.seek(offset)
            while chunk := file.read(CHUNK_BYTES):
                yield chunk


@dataclass(frozen=True)
class Member:
    """A file of the folder; in the tar its header begins at `start`."""

    path: Path
    info: tarfile.TarInfo
    start: int

    @property
    def header(self) -> bytes:
        return self.info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


class FolderSource:
    """Every file below a folder but hidden ones, in the order of their names; links are not followed.

    A manifest comes first, so that a reader knows it before the first picture. Times and owners are left out:
    the same files make the same bytes.
    """

    def __init__(self, folder: Path) -> None:
        self.name = f"{utf8_name(folder.resolve().name) or 'folder'}.tar"
        self._members: list[Member] = []
        seen = hashlib.sha256(os.fsencode(folder.resolve()))
        start = 0
        for path in sorted(_files(folder), key=lambda path: (not _is_manifest(folder, path), path)):
            status = path.stat()
            info = tarfile.TarInfo(path.relative_to(folder).as_posix())
            info.size = status.st_size
            member = Member(path, info, start)
            self._members.append(member)
            start += len(member.header) + _padded(info.size)
            seen.update(os.fsencode(info.name) + f" {status.st_size} {status.st_mtime_ns}\n".encode())
        self.size = start + len(END)
        self.identity = seen.hexdigest()

    def __len__(self) -> int:
        return len(self._members)

    def read(self, offset: int) -> Iterator[bytes]:
        first = max(0, bisect.bisect_right(self._members, offset, key=lambda member: member.start) - 1)
        for member in self._members[first:]:
            yield from _from(offset - member.start, member.header, _content(member))
        yield END[max(0, offset - self.size + len(END)) :]


def source_of(path: Path) -> Source:
    return FolderSource(path) if path.is_dir() else FileSource(path)


def utf8_name(name: str) -> str:
    """A file's name as text, whatever bytes it has on disk."""
    return os.fsencode(name).decode(errors="replace")


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(place) / name
            if not name.startswith(".") and path.is_file() and not path.is_symlink():
                yield path


def _is_manifest(folder: Path, path: Path) -> bool:
    return path.parent == folder and path.name in ("manifest.csv", "manifest.jsonl")


def _content(member: Member) -> Iterator[bytes]:
    """The file's bytes up to the next block. Raises: OSError if there are fewer than when it was looked at"""
    left = member.info.size
    with member.path.open("rb") as file:
        while left:
            chunk = file.read(min(left, CHUNK_BYTES))
            if not chunk:
                raise OSError(f"{member.path} became shorter while it was sent")
            left -= len(chunk)
            yield chunk
    yield bytes(_padded(member.info.size) - member.info.size)


def _from(skip: int, header: bytes, content: Iterator[bytes]) -> Iterator[bytes]:
    """What follows the first `skip` bytes."""
    for chunk in (header, *()) if skip < len(header) else ():
        yield chunk[max(0, skip) :]
    skip -= len(header)
    for chunk in content:
        if skip < len(chunk):
            yield chunk[max(0, skip) :]
        skip -= len(chunk)


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _hash(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()
