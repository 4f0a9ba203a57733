"""Blobs in a folder: what only a folder does."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.errors import StorageUnavailable
from shared.folder_storage import FolderStorage

JOB = "0198c6f0-1b2c-7d3e-8f4a-5b6c7d8e9f00"


@pytest.fixture
def storage(tmp_path: Path) -> FolderStorage:
    return FolderStorage(tmp_path / "blobs")


def files(storage: FolderStorage) -> list[Path]:
    return [path for path in storage.root.rglob("*") if path.is_file()]


def test_a_write_that_fails_leaves_the_old_blob_and_no_draft(
    storage: FolderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.put(f"{JOB}/image", b"old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(StorageUnavailable, match="No space left"):
        storage.put(f"{JOB}/image", b"new")
    assert [path.read_bytes() for path in files(storage)] == [b"old"]


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("a file, where the folder should be")
    storage = FolderStorage(tmp_path / "blobs")
    for use in (lambda: storage.put(f"{JOB}/image", b""), storage.check):
        with pytest.raises(StorageUnavailable):
            use()


def test_a_writer_that_hung_holds_nothing_back_for_later(storage: FolderStorage) -> None:
    """A tus client's connection may hang while another one goes on; what it had brought is there at once."""

    def hung() -> Iterator[bytes]:
        yield b"small"
        assert storage.size(f"{JOB}/archive") == 10
        storage.append(f"{JOB}/archive", 10, [b" and more"])
        raise TimeoutError

    storage.append(f"{JOB}/archive", 0, [b"first"])
    with pytest.raises(StorageUnavailable):
        storage.append(f"{JOB}/archive", 5, hung())
    assert storage.get(f"{JOB}/archive") == b"firstsmall and more"


def test_jobs_of_one_moment_do_not_share_a_folder(storage: FolderStorage) -> None:
    for i in range(20):
        storage.put(f"{JOB[:-2]}{i:02}/image", b"x")
    assert len(list(storage.root.iterdir())) > 10


def test_a_writer_whose_place_is_taken_writes_no_more(storage: FolderStorage) -> None:
    """A connection that wakes up again must not write behind what its successor wrote."""

    def slow() -> Iterator[bytes]:
        yield b"small"
        storage.append(f"{JOB}/archive", 10, [b" and more"])
        yield b"late"

    storage.append(f"{JOB}/archive", 0, [b"first"])
    with pytest.raises(StorageUnavailable, match="Somebody else"):
        storage.append(f"{JOB}/archive", 5, slow())
    assert storage.get(f"{JOB}/archive") == b"firstsmall and more"


def test_what_is_free_is_known(storage: FolderStorage) -> None:
    assert storage.free_bytes() is None  # the folder is not made yet
    storage.put(f"{JOB}/image", b"x")
    assert (storage.free_bytes() or 0) > 0


def test_readers_see_a_whole_blob_while_writers_replace_it(storage: FolderStorage) -> None:
    blobs = [bytes([i]) * 100_000 for i in range(4)]
    key = f"{JOB}/image"
    storage.put(key, blobs[0])
    with ThreadPoolExecutor(8) as pool:
        writes = [pool.submit(storage.put, key, blobs[i % 4]) for i in range(60)]
        reads = [pool.submit(storage.get, key) for _ in range(200)]
    assert all(read.result() in blobs for read in reads)
    assert not [write.exception() for write in writes if write.exception()]
    assert len(files(storage)) == 1
