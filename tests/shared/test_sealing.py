"""Blobs encrypted at rest: nothing of them lies in the store, and nothing that was changed there is believed."""

import base64
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared import sealing
from shared.errors import BlobDamaged, StorageUnavailable, UploadLocked
from shared.folder_storage import FolderStorage
from shared.sealed_storage import SealedStorage
from shared.sealing import HEADER_BYTES, Keyring
from shared.settings import Settings
from shared.storage import storage_of

JOB = "0198c6f0-1b2c-7d3e-8f4a-5b6c7d8e9f00"
KEY, OTHER = f"{JOB}/image", f"{JOB}/mask"
OLD, NEW = bytes(range(32)), bytes(range(1, 33))
CHUNK = 16


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "CHUNK_BYTES", CHUNK)


@pytest.fixture
def inner(tmp_path: Path) -> FolderStorage:
    return FolderStorage(tmp_path)


@pytest.fixture
def storage(inner: FolderStorage) -> SealedStorage:
    return SealedStorage(inner, Keyring([NEW]))


def pattern(size: int) -> bytes:
    return bytes(number % 251 for number in range(size))


def chunks(stored: bytes) -> list[bytes]:
    size = CHUNK + sealing.OVERHEAD_BYTES
    return [stored[at : at + size] for at in range(HEADER_BYTES, len(stored), size)]


def refuses(storage: SealedStorage, inner: FolderStorage, stored: bytes) -> bool:
    """Whether what now lies there is given to nobody, in whole or from its beginning to its end."""
    inner.put(KEY, stored)
    with pytest.raises((BlobDamaged, StorageUnavailable)):
        storage.get(KEY)
    with pytest.raises((BlobDamaged, StorageUnavailable)):
        read_in_steps(storage)
    return True


def read_in_steps(storage: SealedStorage) -> None:
    with storage.open(KEY) as file:
        while file.read(5):
            pass


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 5])
def test_what_was_put_or_has_grown_comes_back(
    storage: SealedStorage, inner: FolderStorage, size: int
) -> None:
    data = pattern(size)
    storage.put(KEY, data)
    assert storage.append(OTHER, 0, [data[at : at + 3] for at in range(0, size, 3)]) == size
    for key in (KEY, OTHER):
        assert storage.get(key) == data
        assert storage.size(key) == size
        assert len(chunks(inner.get(key))) == max(1, -(-size // CHUNK))
        with storage.open(key) as file:
            assert [file.seek(at) and file.read(4) for at in range(1, size)] == [
                data[at : at + 4] for at in range(1, size)
            ]
            assert (file.seek(0, 2), file.read()) == (size, b"")


def test_the_real_size_of_a_chunk_works_too(
    inner: FolderStorage, storage: SealedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "CHUNK_BYTES", 2**16)
    for size in (2**16 - 1, 2**16, 2**16 + 1, 5 * 2**16 + 17):
        data = os.urandom(size)
        storage.put(KEY, data)
        assert storage.get(KEY) == data
        with storage.open(KEY) as file:
            file.seek(-100, 2)
            assert file.read() == data[-100:]


def test_a_blob_grows_from_every_place_to_every_size(storage: SealedStorage) -> None:
    data = pattern(2 * CHUNK + 1)
    for first in range(1, len(data)):
        storage.append(KEY, 0, [data[:first]])
        assert storage.append(KEY, first, [data[first:]]) == len(data)
        assert storage.get(KEY) == data
        assert storage.append(KEY, first, [b"end"]) == first + 3
        assert storage.get(KEY) == data[:first] + b"end"
    with pytest.raises(ValueError, match="cannot go on"):
        storage.append(KEY, first + 4, [b"?"])


def test_one_changed_byte_anywhere_is_refused(storage: SealedStorage, inner: FolderStorage) -> None:
    storage.put(KEY, pattern(2 * CHUNK + 5))
    stored = inner.get(KEY)
    for at in range(len(stored)):
        assert refuses(storage, inner, stored[:at] + bytes([stored[at] ^ 1]) + stored[at + 1 :])
    inner.put(KEY, stored)
    assert storage.get(KEY) == pattern(2 * CHUNK + 5)


def test_every_truncation_and_addition_is_refused(storage: SealedStorage, inner: FolderStorage) -> None:
    storage.put(KEY, pattern(2 * CHUNK + 5))
    stored = inner.get(KEY)
    for size in range(len(stored)):
        assert refuses(storage, inner, stored[:size])
    for more in (b"\0", bytes(40), chunks(stored)[-1], chunks(stored)[0]):
        assert refuses(storage, inner, stored + more)


def test_chunks_of_another_place_blob_or_time_are_refused(
    storage: SealedStorage, inner: FolderStorage
) -> None:
    storage.put(KEY, pattern(3 * CHUNK))
    stored = inner.get(KEY)
    header, (first, second, third) = stored[:HEADER_BYTES], chunks(stored)
    assert refuses(storage, inner, header + second + first + third)
    assert refuses(storage, inner, header + first + first + third)
    assert refuses(storage, inner, header + first + third)
    storage.put(OTHER, pattern(3 * CHUNK))
    assert refuses(storage, inner, inner.get(OTHER))  # a whole blob under another name
    storage.put(KEY, pattern(3 * CHUNK))
    assert refuses(storage, inner, header + chunks(inner.get(KEY))[0] + second + third)


def test_nothing_of_a_blob_lies_in_the_store_and_no_nonce_serves_twice(
    storage: SealedStorage, inner: FolderStorage
) -> None:
    data, seen = b"a picture of a person, as it was sent" * 20, set()
    storage.put_many({KEY: data})
    for start in range(0, len(data), 100):  # the last chunk is sealed again and again
        storage.append(OTHER, start, [data[start : start + 100]])
        seen.add(inner.get(OTHER)[-CHUNK - sealing.OVERHEAD_BYTES :])
    for stored in (inner.get(KEY), inner.get(OTHER), *seen):
        assert not any(data[at : at + 8] in stored for at in range(37))
    nonces = [chunk[: sealing.NONCE_BYTES] for key in (KEY, OTHER) for chunk in chunks(inner.get(key))]
    assert len(set(nonces)) == len(nonces)
    storage.put(OTHER, data)
    storage.put(KEY, data)
    assert inner.get(KEY)[HEADER_BYTES:] != inner.get(OTHER)[HEADER_BYTES:]


def test_the_first_key_seals_and_all_open(inner: FolderStorage) -> None:
    SealedStorage(inner, Keyring([OLD])).put(KEY, b"old")
    both = SealedStorage(inner, Keyring([NEW, OLD]))
    both.put(OTHER, b"new")
    assert (both.get(KEY), both.get(OTHER)) == (b"old", b"new")
    for use in (SealedStorage.get, SealedStorage.open, SealedStorage.size):
        with pytest.raises(StorageUnavailable, match="a key that MEDQ_BLOB_KEYS does not hold"):
            use(SealedStorage(inner, Keyring([NEW])), KEY)
    assert SealedStorage(inner, Keyring([NEW])).get(OTHER) == b"new"


def test_what_was_not_sealed_is_refused_unless_somebody_asks_for_it(inner: FolderStorage) -> None:
    inner.put(KEY, b"from before")
    inner.append(OTHER, 0, [b"half of "])
    strict = SealedStorage(inner, Keyring([NEW]))
    uses: list[Callable[[], object]] = [
        lambda: strict.get(KEY), lambda: strict.open(KEY), lambda: strict.size(OTHER),
        lambda: strict.append(OTHER, 8, [b"an upload"]),
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(StorageUnavailable, match="MEDQ_PLAIN_BLOBS"):
            use()
    reads = SealedStorage(inner, Keyring([NEW]), reads_plain=True)
    assert reads.get(KEY) == b"from before"
    assert reads.append(OTHER, reads.size(OTHER), [b"an upload"]) == 17
    assert reads.get(OTHER) == b"half of an upload"
    reads.put(KEY, b"from now on")
    assert b"now" not in inner.get(KEY)


@pytest.mark.parametrize("torn", [1, 20, 40, CHUNK + 28, CHUNK + 40])
def test_an_upload_goes_on_after_a_writer_that_died(
    storage: SealedStorage, inner: FolderStorage, torn: int
) -> None:
    """Whatever of the last chunks reached the disk: what is whole counts, and the client sends the rest."""
    data = pattern(4 * CHUNK)
    storage.append(KEY, 0, [data])
    stored = inner.get(KEY)
    inner.append(KEY, len(stored) - torn, [])
    known = storage.size(KEY)
    assert known in (2 * CHUNK, 3 * CHUNK)
    assert storage.append(KEY, known, [data[known:]]) == len(data)
    assert storage.get(KEY) == data


def test_a_writer_that_died_within_the_header_wrote_nothing(
    storage: SealedStorage, inner: FolderStorage
) -> None:
    for size in (0, 5, HEADER_BYTES):
        inner.append(KEY, 0, [Keyring([NEW]).seal(KEY).header[:size]])
        assert storage.size(KEY) == 0


def test_what_was_acknowledged_stays_when_the_next_piece_brings_nothing(storage: SealedStorage) -> None:
    def broken() -> Iterator[bytes]:
        yield from ()
        raise UploadLocked(retry_after_s=1)

    storage.append(KEY, 0, [b"acknowledged"])
    with pytest.raises(UploadLocked):
        storage.append(KEY, 12, broken())
    assert storage.get(KEY) == b"acknowledged"


def test_a_writer_that_hung_cannot_write_over_its_successor(storage: SealedStorage) -> None:
    def hung() -> Iterator[bytes]:
        yield b"small"
        storage.append(KEY, 5, [b" and more, beyond a chunk"])
        raise UploadLocked(retry_after_s=1)

    storage.append(KEY, 0, [b"first"])
    with pytest.raises((UploadLocked, StorageUnavailable)):
        storage.append(KEY, 5, hung())
    assert storage.get(KEY) == b"first and more, beyond a chunk"


def test_settings_choose_keys_and_what_becomes_of_the_old(tmp_path: Path) -> None:
    keys = ", ".join(base64.b64encode(key).decode() for key in (NEW, OLD))
    plain = storage_of(Settings(storage_url=str(tmp_path)))
    plain.put(KEY, b"from before")
    sealed = storage_of(Settings(storage_url=str(tmp_path), blob_keys=keys))
    sealed.put(OTHER, b"new")
    assert plain.get(OTHER).startswith(sealing.MAGIC)
    with pytest.raises(StorageUnavailable):
        sealed.get(KEY)
    assert (
        storage_of(Settings(storage_url=str(tmp_path), blob_keys=keys, plain_blobs="read")).get(KEY)
        == b"from before"
    )
    assert keys not in repr(Settings(blob_keys=keys))
