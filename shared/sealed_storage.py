"""Blobs encrypted at rest, in whatever store lies below; `shared/sealing.py` says how."""

from collections.abc import Iterable, Mapping
from io import SEEK_END, BufferedReader, BytesIO
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO

from shared import sealing
from shared.errors import BlobDamaged, StorageUnavailable
from shared.sealing import HEADER_BYTES, MAGIC, Keyring, Seal, chunk_count, chunk_start, plain_bytes
from shared.seekable import SeekableReader

if TYPE_CHECKING:
    from shared.storage import Storage


class SealedStorage:
    """Everything that is written is sealed. With `reads_plain`, what lies there unsealed is read as it is, and an
    upload that began so goes on so; else it is refused, since whoever can write to the store could put it there."""

    def __init__(self, inner: "Storage", keys: Keyring, *, reads_plain: bool = False) -> None:
        self._inner, self._keys, self._reads_plain = inner, keys, reads_plain

    def put(self, key: str, data: bytes) -> None:
        self._inner.put(key, self._keys.seal(key).sealed(data))

    def put_many(self, blobs: Mapping[str, bytes]) -> None:
        self._inner.put_many({key: self._keys.seal(key).sealed(data) for key, data in blobs.items()})

    def sync(self) -> None:
        self._inner.sync()

    def append(self, key: str, offset: int, chunks: Iterable[bytes]) -> int:
        if offset == 0:
            seal = self._keys.seal(key)
            return plain_bytes(self._inner.append(key, 0, chain([seal.header], seal.chunks(0, b"", chunks))))
        place, held = (offset - 1) // sealing.CHUNK_BYTES, (offset - 1) % sealing.CHUNK_BYTES + 1
        with self._inner.open(key) as file:
            if not self._is_sealed(file):
                return self._inner.append(key, offset, chunks)
            seal = self._keys.open(file.read(HEADER_BYTES), key)
            data = _tail(file, seal, place)
        if len(data) < held:
            raise ValueError(f"the blob ends before that, and cannot go on at {offset}")
        sealed = seal.chunks(place, data[:held], chunks)
        return plain_bytes(self._inner.append(key, chunk_start(place), sealed))

    def size(self, key: str) -> int:
        """Up to the last chunk that is whole: whoever died while he wrote may have torn one."""
        with self._inner.open(key) as file:
            stored = file.seek(0, SEEK_END)
            if not self._is_sealed(file):
                return stored
            if stored <= HEADER_BYTES:
                return 0
            seal, place = self._keys.open(file.read(HEADER_BYTES), key), chunk_count(stored) - 1
            try:
                return place * sealing.CHUNK_BYTES + len(_tail(file, seal, place))
            except BlobDamaged:
                return place * sealing.CHUNK_BYTES

    def get(self, key: str) -> bytes:
        with self._opened(BytesIO(self._inner.get(key)), key) as file:
            return file.read()

    def open(self, key: str) -> BinaryIO:
        file = self._inner.open(key)
        try:
            return self._opened(file, key)
        except BaseException:
            file.close()
            raise

    def exists(self, key: str) -> bool:
        return self._inner.exists(key)

    def delete(self, key: str) -> None:
        self._inner.delete(key)

    def delete_prefix(self, prefix: str) -> None:
        self._inner.delete_prefix(prefix)

    def erase(self, job_id: str) -> None:
        self._inner.erase(job_id)

    def ages(self, part: int) -> dict[str, float]:
        return self._inner.ages(part)

    def free_bytes(self) -> int | None:
        return self._inner.free_bytes()

    def check(self) -> None:
        self._inner.check()

    def _opened(self, file: BinaryIO, key: str) -> BinaryIO:
        if not self._is_sealed(file):
            return file
        return BufferedReader(SealedReader(file, self._keys.open(file.read(HEADER_BYTES), key)))

    def _is_sealed(self, file: BinaryIO) -> bool:
        """The file is at its beginning then. Raises: StorageUnavailable for what may not be read as it is"""
        file.seek(0)
        sealed = sealing.starts_sealed(file.read(len(MAGIC)))
        file.seek(0)
        if not sealed and not self._reads_plain:
            raise StorageUnavailable("The blob is not sealed; MEDQ_PLAIN_BLOBS=read would read it.")
        return sealed


class SealedReader(SeekableReader):
    """What a sealed file holds, as a file that can seek; it holds one chunk, and closes the file.

    Raises: BlobDamaged, at the chunk that is not what was stored
    """

    def __init__(self, file: BinaryIO, seal: Seal) -> None:
        self._file, self._seal = file, seal  # first: a reader that is given up closes its file
        stored = file.seek(0, SEEK_END)
        super().__init__(plain_bytes(stored))
        self._count = chunk_count(stored)
        if self._count > 1 and stored <= chunk_start(self._count - 1) + sealing.OVERHEAD_BYTES:
            raise BlobDamaged()  # nothing would be read of the last chunk, which proves that it is the last
        self._place, self._chunk = -1, b""
        self._load(0)  # so that the first one is refused before anybody was promised anything

    def readinto(self, buffer: Any) -> int:
        if self._at >= self._end:
            return 0
        place, start = divmod(self._at, sealing.CHUNK_BYTES)
        if place != self._place:
            self._load(place)
        data = self._chunk[start : start + len(buffer)]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()

    def _load(self, place: int) -> None:
        stored = _stored_chunk(self._file, place)
        self._chunk = self._seal.opened(place, stored, last=place >= self._count - 1)
        self._place = place


def _stored_chunk(file: BinaryIO, place: int) -> bytes:
    file.seek(chunk_start(place))
    return file.read(sealing.CHUNK_BYTES + sealing.OVERHEAD_BYTES)


def _tail(file: BinaryIO, seal: Seal, place: int) -> bytes:
    """A chunk of a blob that grows: whoever died, or was cut off, may not have marked the last one."""
    stored = _stored_chunk(file, place)
    try:
        return seal.opened(place, stored, last=False)
    except BlobDamaged:
        return seal.opened(place, stored, last=True)
