"""Blobs by job in a folder: all or nothing, by safe names only, and erased without a trace."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.errors import NotFound, SettingsError, StorageUnavailable
from shared.storage import FolderStorage, open_storage

JOB = "0198c6f0-1b2c-7d3e-8f4a-5b6c7d8e9f00"


@pytest.fixture
def storage(tmp_path: Path) -> FolderStorage:
    return FolderStorage(tmp_path / "blobs")


def files(storage: FolderStorage) -> list[Path]:
    return [path for path in storage.root.rglob("*") if path.is_file()]


def test_what_was_put_is_read_back(storage: FolderStorage) -> None:
    storage.put(f"{JOB}/image", b"first")
    storage.put(f"{JOB}/image", b"second")
    assert storage.get(f"{JOB}/image") == b"second"
    with storage.open(f"{JOB}/image") as file:
        assert file.read(3) == b"sec"
    assert storage.exists(f"{JOB}/image")
    assert len(files(storage)) == 1


def test_what_is_not_there_is_not_found(storage: FolderStorage) -> None:
    assert not storage.exists(f"{JOB}/image")
    for read in (storage.get, storage.open):
        with pytest.raises(NotFound):
            read(f"{JOB}/image")


@pytest.mark.parametrize(
    "key",
    ["", "/", "image", f"{JOB}/", f"{JOB}/..", f"../{JOB}", f"{JOB}/../x", "/etc/passwd", f"{JOB}/.hidden", f"{JOB}/a/b",
     f"{JOB}/a\\b", f"{JOB}/a\0", f"{JOB}/a\n", f"{JOB}/é", f"{JOB}/{'a' * 200}", f"./{JOB}/image"],
)  # fmt: skip
def test_only_a_job_and_a_plain_name_make_a_key(storage: FolderStorage, key: str) -> None:
    with pytest.raises(ValueError, match="key"):
        storage.put(key, b"")
    with pytest.raises(ValueError, match="key"):
        storage.get(key)


@pytest.mark.parametrize("job_id", ["", ".", "..", "/", "a/b", "../..", f"{JOB}\n"])
def test_only_a_job_can_be_erased(storage: FolderStorage, job_id: str) -> None:
    storage.put(f"{JOB}/image", b"x")
    with pytest.raises(ValueError, match="job id"):
        storage.erase(job_id)
    assert storage.exists(f"{JOB}/image")


def test_erasing_a_job_leaves_its_neighbours(storage: FolderStorage) -> None:
    for name in ("image", "mask", "overlay"):
        storage.put(f"{JOB}/{name}", b"x")
        storage.put(f"{JOB}1/{name}", b"x")
    storage.erase(JOB)
    storage.erase(JOB)
    assert not any(storage.exists(f"{JOB}/{name}") for name in ("image", "mask", "overlay"))
    assert len(files(storage)) == 3


def test_a_prefix_stays_within_its_job(storage: FolderStorage) -> None:
    for name in ("mask", "mask-2", "image"):
        storage.put(f"{JOB}/{name}", b"x")
    storage.delete_prefix(f"{JOB}/mask")
    assert [path.name for path in files(storage)] == ["image"]
    storage.delete_prefix("another/")
    with pytest.raises(ValueError, match="prefix"):
        storage.delete_prefix(JOB[:4])


def test_deleting_twice_is_deleting_once(storage: FolderStorage) -> None:
    storage.put(f"{JOB}/image", b"x")
    storage.delete(f"{JOB}/image")
    storage.delete(f"{JOB}/image")
    assert files(storage) == []


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


def test_a_check_leaves_nothing_behind(storage: FolderStorage) -> None:
    storage.check()
    assert files(storage) == []


def test_jobs_of_one_moment_do_not_share_a_folder(storage: FolderStorage) -> None:
    for i in range(20):
        storage.put(f"{JOB[:-2]}{i:02}/image", b"x")
    assert len(list(storage.root.iterdir())) > 10


def test_a_setting_names_a_folder(tmp_path: Path) -> None:
    for url in (str(tmp_path), f"file://{tmp_path}", f"file://localhost{tmp_path}"):
        store = open_storage(url)
        assert isinstance(store, FolderStorage)
        assert store.root == tmp_path


@pytest.mark.parametrize(
    "url", ["", "s3://bucket/prefix", "file://host/path", "file:", "https://example.org/x"]
)
def test_other_stores_are_refused_with_what_is_supported(url: str) -> None:
    with pytest.raises(SettingsError, match="file:///folder"):
        open_storage(url)
