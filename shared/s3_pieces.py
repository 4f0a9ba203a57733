"""A blob on S3 that grows: a row of objects, since no object of S3 can be added to.

A multipart upload would not do: nothing of it can be read before its end, and its parts have at least 5 MiB,
where a client of tus may send pieces of any size and ask at any time how much has arrived.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from shared.errors import StorageUnavailable
from shared.seekable import SeekableReader

PIECE_BYTES = 8 * 2**20  # held in memory twice while an upload arrives
SKIP_BYTES = 2**18  # shorter ways ahead are read through: a request costs more
READ_BYTES = 2**16


@dataclass(frozen=True)
class Piece:
    """An object that holds a blob's bytes from `start` on."""

    path: str
    start: int
    size: int
    tag: str  # changes with the bytes

    @property
    def end(self) -> int:
        return self.start + self.size


def piece_path(blob: str, start: int) -> str:
    """So that a listing has them in order."""
    return f"{blob}/{start:016d}"


def in_a_row(pieces: Iterable[Piece]) -> list[Piece]:
    """Those from the beginning on without a gap: whoever died while he deleted may have left others."""
    found: list[Piece] = []
    for piece in pieces:
        if piece.start != (found[-1].end if found else 0):
            break
        found.append(piece)
    return found


class PieceWriter:
    """Collects bytes behind a blob's last piece, and puts them as pieces of PIECE_BYTES.

    A last piece that is not full is made anew, so that many small appends leave few objects. Each write holds
    only if nobody else wrote that piece since: `put(path, data, tag)` of another tag than `tag` fails, and one
    without a tag fails if there is a piece.
    """

    def __init__(self, blob: str, put: Callable[[str, bytes, str | None], None], start: int = 0) -> None:
        self._blob, self._put, self._start = blob, put, start
        self._held = bytearray()
        self._tag: str | None = None
        self._new = start == 0  # an empty blob has an empty piece

    def go_on(self, piece: Piece, data: bytes) -> None:
        """Behind `data`, the beginning of a piece that is to be written anew."""
        self._start, self._tag = piece.start, piece.tag
        self._held += data
        self._new = len(data) < piece.size

    @property
    def end(self) -> int:
        return self._start + len(self._held)

    def add(self, chunk: bytes) -> None:
        self._held += chunk
        self._new = self._new or bool(chunk)
        while len(self._held) >= PIECE_BYTES:
            self._write(PIECE_BYTES)

    def flush(self) -> None:
        if self._new:
            self._write(len(self._held))

    def _write(self, size: int) -> None:
        data = bytes(memoryview(self._held)[:size])
        self._put(piece_path(self._blob, self._start), data, self._tag)
        del self._held[:size]
        self._start, self._tag, self._new = self._start + size, None, bool(self._held)


class PieceReader(SeekableReader):
    """Reads pieces as one file that can seek; `fetch(piece, offset)` answers with the object's body from there on.

    Raises: StorageUnavailable when a body breaks off twice, NotFound when the blob was erased
    """

    def __init__(self, pieces: Sequence[Piece], fetch: Callable[[Piece, int], Any]) -> None:
        self._pieces = [piece for piece in pieces if piece.size]
        super().__init__(self._pieces[-1].end if self._pieces else 0)
        self._starts = [piece.start for piece in self._pieces]
        self._fetch = fetch
        self._body: Any = None
        self._body_at, self._body_end = 0, 0  # of the blob

    def readinto(self, buffer: Any) -> int:
        if self._at >= self._end or not len(buffer):
            return 0
        try:
            data = self._read(len(buffer))
        except StorageUnavailable:  # bodies of archives take minutes; one may break off
            self._drop()
            data = self._read(len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._drop()
        super().close()

    def _read(self, size: int) -> bytes:
        self._reach()
        data: bytes = self._body.read(min(size, self._body_end - self._at))
        if not data:
            raise StorageUnavailable("The blob store sent less than it has.")
        self._body_at += len(data)
        return data

    def _reach(self) -> None:
        """A body whose next byte is the one at our place."""
        if self._body is None or not self._body_at <= self._at < self._body_end:
            self._open()
        while self._body_at < self._at:
            if self._at - self._body_at > SKIP_BYTES:
                self._open()
                return
            passed = len(self._body.read(self._at - self._body_at))
            if not passed:
                raise StorageUnavailable("The blob store sent less than it has.")
            self._body_at += passed

    def _open(self) -> None:
        self._drop()
        piece = self._pieces[bisect_right(self._starts, self._at) - 1]
        self._body = self._fetch(piece, self._at - piece.start)
        self._body_at, self._body_end = self._at, piece.end

    def _drop(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            with suppress(Exception):  # nobody needs the rest
                body.close()
