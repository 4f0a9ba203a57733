"""Blobs by job, in a folder and on S3, encrypted and not: all or nothing, by safe names only, and erased without a trace."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.blob_keys import PARTS, part_of
from shared.errors import NotFound, SettingsError, UploadLocked
from shared.folder_storage import FolderStorage
from shared.s3_storage import S3Storage
from shared.sealed_storage import SealedStorage
from shared.sealing import Keyring
from shared.storage import Storage, open_storage
from tests.s3 import Bucket

JOB = "0198c6f0-1b2c-7d3e-8f4a-5b6c7d8e9f00"
NO_KEYS = (
    ["", "/", "image", f"{JOB}/", f"{JOB}/..", f"../{JOB}", f"{JOB}/../x", "/etc/passwd", f"{JOB}/.hidden", f"{JOB}/a/b",
     f"{JOB}/a\\b", f"{JOB}/a\0", f"{JOB}/a\n", f"{JOB}/é", f"{JOB}/{'a' * 200}", f"./{JOB}/image"]
)  # fmt: skip
NO_JOBS = ["", ".", "..", "/", "a/b", "../..", f"{JOB}\n"]

Keys = Callable[[], list[str]]


@pytest.fixture(params=["folder", "s3", "sealed folder", "sealed s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if "folder" in request.param:
        return str(tmp_path / "blobs")
    bucket: Bucket = request.getfixturevalue("bucket")
    return bucket.url


@pytest.fixture
def storage(url: str, request: pytest.FixtureRequest) -> Storage:
    storage = open_storage(url) if "://" not in url else _of(request.getfixturevalue("bucket"))
    sealed = "sealed" in request.node.callspec.params["url"]
    return SealedStorage(storage, Keyring([bytes(32)])) if sealed else storage


def _of(bucket: Bucket) -> S3Storage:
    return S3Storage(bucket.client, bucket.name, "blobs")


@pytest.fixture
def keys(url: str, request: pytest.FixtureRequest) -> Keys:
    """`keys()`: what lies in the store, without its parts."""
    if url.startswith("s3:"):
        bucket: Bucket = request.getfixturevalue("bucket")
        return lambda: [key.split("/", 2)[2] for key in bucket.listed()]
    return lambda: sorted("/".join(path.parts[-2:]) for path in Path(url).rglob("*") if path.is_file())


def test_what_was_put_is_read_back(storage: Storage, keys: Keys) -> None:
    storage.put(f"{JOB}/image", b"first")
    storage.put(f"{JOB}/image", b"second")
    assert storage.get(f"{JOB}/image") == b"second"
    with storage.open(f"{JOB}/image") as file:
        assert file.read(3) == b"sec"
    assert storage.exists(f"{JOB}/image")
    assert keys() == [f"{JOB}/image"]


def test_what_is_not_there_is_not_found(storage: Storage) -> None:
    assert not storage.exists(f"{JOB}/image")
    for read in (storage.get, storage.open):
        with pytest.raises(NotFound):
            read(f"{JOB}/image")


def test_only_a_job_and_a_plain_name_make_a_key(storage: Storage) -> None:
    uses: list[Callable[[str], object]] = [
        lambda key: storage.put(key, b""), storage.get, storage.open, storage.delete, storage.exists,
        lambda key: storage.append(key, 0, [b""]),
    ]  # fmt: skip
    for key in NO_KEYS:
        for use in uses:
            with pytest.raises(ValueError, match="key"):
                use(key)


def test_only_a_job_can_be_erased(storage: Storage) -> None:
    storage.put(f"{JOB}/image", b"x")
    for job_id in NO_JOBS:
        with pytest.raises(ValueError, match="job id"):
            storage.erase(job_id)
    assert storage.exists(f"{JOB}/image")


def test_erasing_a_job_leaves_its_neighbours(storage: Storage, keys: Keys) -> None:
    for name in ("image", "mask", "overlay"):
        storage.put(f"{JOB}/{name}", b"x")
        storage.put(f"{JOB}1/{name}", b"x")
    storage.erase(JOB)
    storage.erase(JOB)
    assert not any(storage.exists(f"{JOB}/{name}") for name in ("image", "mask", "overlay"))
    assert keys() == [f"{JOB}1/{name}" for name in ("image", "mask", "overlay")]


def test_a_prefix_stays_within_its_job(storage: Storage, keys: Keys) -> None:
    for name in ("mask", "mask-2", "image"):
        storage.put(f"{JOB}/{name}", b"x")
    storage.delete_prefix(f"{JOB}/mask")
    assert keys() == [f"{JOB}/image"]
    storage.delete_prefix("another/")
    with pytest.raises(ValueError, match="prefix"):
        storage.delete_prefix(JOB[:4])


def test_deleting_twice_is_deleting_once(storage: Storage, keys: Keys) -> None:
    storage.put(f"{JOB}/image", b"x")
    storage.delete(f"{JOB}/image")
    storage.delete(f"{JOB}/image")
    assert keys() == []


def test_a_check_leaves_nothing_behind(storage: Storage, keys: Keys) -> None:
    storage.check()
    assert keys() == []


def test_many_are_put_at_once(storage: Storage) -> None:
    storage.put_many({})
    blobs = {f"{JOB}{number:02}/image": bytes([number]) for number in range(40)}
    storage.put_many(blobs)
    storage.sync()
    assert {key: storage.get(key) for key in blobs} == blobs


def test_a_blob_grows_from_wherever_it_is(storage: Storage) -> None:
    key = f"{JOB}/archive"
    assert storage.append(key, 0, []) == storage.size(key) == 0
    assert storage.get(key) == b""
    assert storage.append(key, 0, [b"ab", b"", b"cd"]) == 4
    assert storage.append(key, 4, [b"ef"]) == storage.size(key) == 6
    assert storage.append(key, 3, [b"XYZ12"]) == 8
    assert storage.get(key) == b"abcXYZ12"
    with pytest.raises(ValueError, match="cannot go on at 9"):
        storage.append(key, 9, [b"?"])
    assert storage.append(key, 0, [b"new"]) == storage.size(key) == 3
    storage.delete(key)
    with pytest.raises(NotFound):
        storage.size(key)


def test_what_arrived_before_an_error_stays(storage: Storage) -> None:
    def broken() -> Iterator[bytes]:
        yield b"more"
        raise UploadLocked(retry_after_s=1)

    storage.append(f"{JOB}/archive", 0, [b"some "])
    with pytest.raises(UploadLocked):
        storage.append(f"{JOB}/archive", 5, broken())
    assert storage.get(f"{JOB}/archive") == b"some more"


def test_a_blob_that_is_read_can_seek(storage: Storage) -> None:
    data = bytes(range(256)) * 4
    storage.append(f"{JOB}/archive", 0, [data])
    with storage.open(f"{JOB}/archive") as file:
        assert file.read(10) == data[:10]
        assert file.seek(-3, 2) == len(data) - 3
        assert file.read() == data[-3:]
        assert file.seek(500) == file.tell() == 500
        assert file.seek(5, 1) == 505
        assert file.read(20) == data[505:525]
        file.seek(len(data) + 10)
        assert file.read() == b""


def test_a_part_knows_how_old_its_blobs_are(storage: Storage) -> None:
    storage.put(f"{JOB}/image", b"x")
    storage.append(f"{JOB}/archive", 0, [b"y"])
    storage.put(f"{JOB}1/image", b"x")
    parts = {int(part_of(job), 16) for job in (JOB, f"{JOB}1")}
    assert storage.ages((max(parts) + 1) % PARTS) == {}
    ages = {job: age for part in parts for job, age in storage.ages(part).items()}
    assert set(ages) == {JOB, f"{JOB}1"}
    assert all(-5 < age < 600 for age in ages.values())


def test_a_setting_names_a_folder(tmp_path: Path) -> None:
    for url in (str(tmp_path), f"file://{tmp_path}", f"file://localhost{tmp_path}"):
        store = open_storage(url)
        assert isinstance(store, FolderStorage)
        assert store.root == tmp_path


def test_a_setting_names_a_bucket(bucket: Bucket) -> None:
    for url in (f"s3://{bucket.name}", f"s3://{bucket.name}/", f"s3://{bucket.name}/a/b/"):
        open_storage(url).put(f"{JOB}/image", b"x")
    path = f"{part_of(JOB)}/{JOB}/image"
    assert bucket.listed() == sorted([path, f"a/b/{path}"])


@pytest.mark.parametrize(
    "url",
    [
        "",
        "s3://",
        "s3://B",
        "s3://bucket/a?b",
        "s3://bucket/../x",
        "file://host/path",
        "file:",
        "https://example.org/x",
    ],
)
def test_other_stores_are_refused_with_what_is_supported(url: str) -> None:
    with pytest.raises(SettingsError, match=r"s3://bucket"):
        open_storage(url)
