"""The client's batches against the real app behind a real socket, over a wire that breaks, and by a client not ours."""

import csv
import io
import json
import socket
import time
import zipfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import update
from tusclient.client import TusClient

from api.client import Client, ClientError, ProblemError
from api.memory import Memory
from api.sources import FileSource
from shared import uploads
from shared.settings import Settings
from shared.tables import UploadRow
from tests.api.batching import pictures, zipped
from tests.api.breaking import Wire
from tests.api.driving import ONE_DATABASE
from tests.api.live import Live, models

MANIFEST = "filename,custom_id,label\n" + "".join(
    f"{i:03d}.jpg,c{i},{'mel' if i % 2 else 'nv'}\n" for i in range(4)
)


@pytest.fixture
def live(settings: Callable[..., Settings], tmp_path: Path) -> Iterator[Live]:
    server = Live(settings(models_dir=str(models(tmp_path / "models"))))
    yield server
    server.close()


@pytest.fixture
def client(live: Live) -> Iterator[Client]:
    with Client(live.url) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    folder.mkdir()
    for name, data in pictures(4).items():
        (folder / name).write_bytes(data)
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))


def noise(path: Path, size: int) -> Path:
    """An archive of one entry that is no picture, and large enough for a wire to break on its way."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("noise.bin", bytes(range(256)) * (size // 256))
    return path


def test_an_archive_of_labels_and_words_goes_through(client: Client, live: Live, tmp_path: Path) -> None:
    path = tmp_path / "study.zip"
    path.write_bytes(zipped(pictures(4) | {"manifest.csv": MANIFEST.encode(), "readme.txt": b"no picture"}))
    batch = client.batch(path, question="Why?", age=45)
    assert (batch.status, batch.filename) == ("receiving", "study.zip")
    live.work()
    end = client.wait_batch(batch.id)
    assert (end.status, end.counts.succeeded, end.counts.rejected) == ("completed", 4, 1)
    assert [entry.name for entry in client.rejected(batch.id)] == ["readme.txt"]
    metrics = client.batch_metrics(batch.id).items[0]
    assert (metrics.counted, metrics.accuracy, metrics.balanced_accuracy) == (4, 0.5, 0.5)
    client.results(batch.id, tmp_path / "out.csv")
    rows = rows_of(tmp_path / "out.csv")
    assert [row["custom_id"] for row in rows] == ["c0", "c1", "c2", "c3"]
    assert {row["finding"] for row in rows} == {"mel"}
    client.results(batch.id, tmp_path / "out.jsonl")
    jobs = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [job["question"] for job in jobs] == ["Why?"] * 4
    client.results(batch.id, tmp_path / "out.zip", images=True)
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert len(archive.namelist()) == 6


@ONE_DATABASE
def test_a_folder_goes_as_tar_with_a_manifest_beside(client: Client, live: Live, folder: Path) -> None:
    (folder / "manifest.csv").write_text("filename,custom_id\n000.jpg,wrong\n")
    manifest = folder.parent / "list.csv"
    manifest.write_text(MANIFEST)
    live.work()
    batch = client.wait_batch(client.batch(folder, manifest=manifest).id)
    assert (batch.counts.succeeded, batch.media_type) == (4, "application/x-tar")
    client.results(batch.id, folder.parent / "out.csv")
    rows = rows_of(folder.parent / "out.csv")
    assert [row["custom_id"] for row in rows] == ["c0", "c1", "c2", "c3"]


@ONE_DATABASE
def test_a_wire_that_breaks_is_taken_up_again(live: Live, tmp_path: Path) -> None:
    path = noise(tmp_path / "big.zip", 8_000_000)
    seen: list[int] = []
    with Wire(live.port, [1_000_000, 3_000_000, 10]) as wire, Client(wire.url) as client:
        batch = client.batch(path, report=seen.append)
        assert wire.broken == 3
    assert batch.size_bytes == path.stat().st_size
    stored = Path(live.settings.storage_location).rglob("archive")
    assert [file.read_bytes() for file in stored] == [path.read_bytes()]
    again = [size for before, size in pairwise(seen) if size < before]
    assert len(again) <= 3
    assert all(size > 0 for size in again)  # from where it broke, and not from the beginning


@ONE_DATABASE
def test_a_later_call_goes_on_where_an_earlier_one_broke(live: Live, client: Client, tmp_path: Path) -> None:
    path, memory = noise(tmp_path / "big.zip", 4_000_000), Memory(tmp_path / "uploads.json")

    class Enough(Exception):
        pass

    def until_half(size: int) -> None:
        if size > 2_000_000:
            raise Enough

    with pytest.raises(Enough):
        client.upload(FileSource(path), report=until_half, memory=memory)
    live.stop()
    live.start()  # the server was restarted meanwhile
    seen: list[int] = []
    batch = client.batch(path, report=seen.append, memory=memory)
    assert seen[0] > 1_000_000
    assert batch.size_bytes == path.stat().st_size
    assert json.loads((tmp_path / "uploads.json").read_text()) == {}


@ONE_DATABASE
def test_an_upload_that_the_server_forgot_begins_anew(client: Client, tmp_path: Path) -> None:
    path, memory = noise(tmp_path / "a.zip", 10_000), Memory(tmp_path / "uploads.json")
    first = client.upload(FileSource(path), memory=memory)
    client.send("DELETE", f"/v1/uploads/{first}", headers={"Tus-Resumable": "1.0.0"})
    assert client.upload(FileSource(path), memory=memory) != first


@ONE_DATABASE
def test_results_that_break_off_replace_nothing(
    client: Client, live: Live, tmp_path: Path, folder: Path
) -> None:
    batch = client.batch(folder)
    live.work()
    client.wait_batch(batch.id)
    out = tmp_path / "out.csv"
    out.write_text("old")
    with pytest.raises(ProblemError):
        client.results("0" * 8 + "-0000" * 3 + "-" + "0" * 12, out)
    assert out.read_text() == "old"
    with pytest.raises(ClientError, match=r"\.jsonl or \.zip"):
        client.results(batch.id, tmp_path / "out.xlsx")
    with pytest.raises(ClientError, match="not as jsonl"):
        client.results(batch.id, tmp_path / "out.jsonl", bom=True)
    assert {path.name for path in tmp_path.iterdir() if "out" in path.name} == {"out.csv"}
    client.results(batch.id, out)
    assert out.read_text().startswith('"entry"')


@ONE_DATABASE
def test_cancel_list_and_rerun(client: Client, live: Live, folder: Path, tmp_path: Path) -> None:
    canceled = client.cancel_batch(client.batch(folder).id)
    assert canceled.status == "canceled"
    live.error = True
    live.work()
    failed = client.wait_batch(client.batch(folder).id)
    assert failed.counts.failed == 4
    live.error = False
    again = client.wait_batch(client.rerun_batch(failed.id).id)
    assert (again.rerun_of, again.counts.succeeded) == (failed.id, 4)
    assert [batch.id for batch in client.batches(page=2)] == [again.id, failed.id, canceled.id]
    client.results(again.id, tmp_path / "out.csv", against=failed.id)
    rows = rows_of(tmp_path / "out.csv")
    assert {(row["old_status"], row["changed"]) for row in rows} == {("failed", "")}
    assert all(row["old_job_id"] for row in rows)


def tus(url: str, data: bytes, **options: object) -> str:
    """An upload by tuspy; its URL."""
    uploader = TusClient(f"{url}/v1/uploads").uploader(
        file_stream=io.BytesIO(data), metadata={"filename": "study.zip"}, **options
    )
    uploader.upload()
    return str(uploader.url)


@ONE_DATABASE
@pytest.mark.parametrize("checksums", [False, True])
def test_a_tus_client_that_is_not_ours_uploads(client: Client, live: Live, checksums: bool) -> None:
    data = zipped(pictures(4))
    url = tus(live.url, data, chunk_size=1000, upload_checksum=checksums)
    live.work()
    batch = client.batch_of(url.rpartition("/")[2])
    assert batch.filename == "study.zip"
    assert client.wait_batch(batch.id).counts.succeeded == 4


@ONE_DATABASE
def test_a_tus_client_that_is_not_ours_resumes(client: Client, live: Live) -> None:
    data = zipped({"noise.bin": bytes(range(256)) * 20_000})
    with Wire(live.port, [1_500_000, 500_000]) as wire:
        url = tus(wire.url, data, chunk_size=3_000_000, retries=3, retry_delay=1)
        assert wire.broken == 2
    assert client.batch_of(url.rpartition("/")[2]).size_bytes == len(data)
    stored = Path(live.settings.storage_location).rglob("archive")
    assert [file.read_bytes() for file in stored] == [data]


def until(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise TimeoutError


@ONE_DATABASE
def test_a_connection_that_hangs_keeps_its_upload_for_a_while_only(
    live: Live, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "LOCK_S", 3600.0)
    data = zipped({"noise.bin": bytes(1_000_000)})
    tus = {"Tus-Resumable": "1.0.0"}
    url = client.send("POST", "/v1/uploads", headers=tus | {"Upload-Length": str(len(data))}).headers[
        "Location"
    ]
    head = (
        f"PATCH {url} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\nTus-Resumable: 1.0.0\r\n"
    )
    head += "Upload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\n\r\n"
    with socket.create_connection(("127.0.0.1", live.port), timeout=60) as hung:
        hung.sendall(head.encode() + data[:400_000])
        seen: list[int] = []

        def taken() -> bool:  # all of it that came: at two looks the same
            seen.append(client.send("GET", url).json()["offset"])
            return len(seen) > 1 and seen[-1] == seen[-2] > 0

        until(taken)
        piece = tus | {"Content-Type": "application/offset+octet-stream"}

        def go_on() -> None:
            offset = client.send("GET", url).json()["offset"]
            headers = piece | {"Upload-Offset": str(offset)}
            client.send("PATCH", url, content=data[offset:], headers=headers)

        with pytest.raises(ProblemError, match="Upload locked"):
            go_on()
        monkeypatch.setattr(
            uploads, "LOCK_S", 0.0
        )  # so that everybody looks for his lock at once, an hour later
        live.db.write(lambda s: s.execute(update(UploadRow).values(locked_until=1)))
        go_on()
        hung.sendall(b"x" * 400_000)  # comes back to life, and writes nothing
        assert b" 423 " in hung.recv(100)
    stored = Path(live.settings.storage_location).rglob("archive")
    assert [file.read_bytes() for file in stored] == [data]
