"""The archive stage on both databases: every kind of archive to jobs, the manifest, and where it cannot go on."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from shared import batches
from shared.images import Limits, decode
from tests.packing import KINDS, packed, pictures, tarred, zipped
from tests.workers.conftest import Desk

Open = Callable[..., Desk]
PICTURES = pictures(4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_becomes_a_job_in_the_archives_order(desk: Open, kind: str) -> None:
    room = desk()
    names = ["b/2.jpg", "a.jpg", "한글/ü.jpg", "c.jpg"]
    files = {"b/": b"", **dict(zip(names, PICTURES, strict=True))}
    batch_id = room.read(packed(kind, files), filename=f"study.{kind}")
    jobs = room.jobs(batch_id)
    assert [(job.entry, job.entry_name) for job in jobs] == list(enumerate(names))
    assert [job.id for job in jobs] == sorted(job.id for job in jobs)
    assert {(job.status, job.stage, job.lane, job.answered) for job in jobs} == {
        ("queued", "vision", "bulk", False)
    }
    for job, data in zip(jobs, PICTURES, strict=True):
        assert (job.sha256, job.size_bytes, job.width) == (hashlib.sha256(data).hexdigest(), len(data), 600)
        assert (decode(room.storage.get(f"{job.id}/image"), Limits()) == decode(data, Limits())).all()
    row = room.batch(batch_id)
    assert (row.status, row.entries, row.accepted, row.rejected) == ("running", 4, 4, 0)
    assert not room.storage.exists(f"{batch_id}/archive")


@pytest.mark.parametrize("broken", [False, True])
def test_an_archive_that_nobody_has_hashed_is_hashed_while_it_is_read(desk: Open, broken: bool) -> None:
    room = desk()
    archive = packed("tar", dict(zip("abcd", PICTURES, strict=True)))
    archive = archive[: len(archive) // 2] if broken else archive
    row = room.batch(room.read(archive))
    assert (row.error_slug is not None) == broken
    assert row.sha256 == hashlib.sha256(archive).hexdigest()


def test_what_is_no_picture_is_rejected_with_its_problem_and_the_rest_is_kept(desk: Open) -> None:
    room = desk(max_upload_bytes=100_000)
    files = {
        "good.jpg": PICTURES[0],
        "text.jpg": b"no picture",
        "empty.jpg": b"",
        "cut.jpg": PICTURES[1][:300],
        "nested.zip": zipped({"inner.jpg": PICTURES[1]}),
        "large.jpg": PICTURES[0] + b"\0" * 100_000,
        "__MACOSX/._good.jpg": b"resource fork",
        ".DS_Store": b"finder",
    }
    batch_id = room.read(zipped(files))
    assert [job.entry_name for job in room.jobs(batch_id)] == ["good.jpg"]
    assert room.problems(batch_id) == {
        "text.jpg": "unsupported-image",
        "empty.jpg": "unreadable-image",
        "cut.jpg": "unreadable-image",
        "nested.zip": "unsupported-image",
        "large.jpg": "upload-too-large",
    }
    assert room.batch(batch_id).entries == 6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["first", "last"])
def test_a_manifest_asks_by_file_wherever_it_stands(desk: Open, kind: str, place: str) -> None:
    room = desk()
    manifest = (
        "﻿filename,question,age,sex,site,custom_id,label\r\n"
        "a.jpg,Is it bad?,45,female,back,P-1,mel\r\n"
        '"b.jpg","Est-ce grave, docteur ?",,,,,\r\n'
    ).encode()
    files = {"manifest.csv": manifest, **dict(zip(["a.jpg", "b.jpg", "c.jpg"], PICTURES, strict=False))}
    if place == "last":
        files["manifest.csv"] = files.pop("manifest.csv")
    batch_id = room.read(packed(kind, files), defaults={"age": "30", "site": "face"})
    a, b, c = room.jobs(batch_id)
    assert (a.question, a.age, a.sex, a.site, a.custom_id) == ("Is it bad?", 45, "female", "back", "P-1")
    assert (a.true_label, a.answered, a.entry) == ("mel", True, 0)
    assert (b.lang, b.age, b.site, b.answered) == ("fr", 30, "face", True)
    assert (c.question, c.age, c.custom_id, c.answered) == ("", 30, None, False)
    assert room.rejected(batch_id) == []


def test_a_manifest_of_json_lines_in_a_folder_names_files_beside_it(desk: Open) -> None:
    room = desk()
    rows = [{"filename": "a.jpg", "age": 7, "metadata": {"k": [1]}}, {"filename": "study/b.jpg", "age": 8}]
    files = {
        "study/a.jpg": PICTURES[0],
        "study/b.jpg": PICTURES[1],
        "study/manifest.jsonl": "\n".join(map(json.dumps, rows)).encode(),
    }
    jobs = room.jobs(room.read(zipped(files)))
    assert [(job.entry_name, job.age) for job in jobs] == [("study/a.jpg", 7), ("study/b.jpg", 8)]
    assert jobs[0].client_metadata == {"k": [1]}


def test_a_manifest_sent_beside_the_archive_takes_the_place_of_the_one_inside(desk: Open) -> None:
    room = desk()
    batch_id = room.hand_in(zipped({"a.jpg": PICTURES[0], "manifest.csv": b"filename,age\na.jpg,1\n"}))
    room.storage.put(f"{batch_id}/manifest.csv", b"filename,age\na.jpg,2\n")
    room.archives.message([batch_id])
    assert [job.age for job in room.jobs(batch_id)] == [2]


def test_every_bad_row_of_a_manifest_is_a_rejected_entry(desk: Open) -> None:
    room = desk()
    manifest = (
        "filename,age,label,pipeline\n"
        "a.jpg,old,,\n"
        "b.jpg,,mole,\n"
        "c.jpg,,,scalp\n"
        "missing.jpg,5,,\n"
        "d.jpg,5,,\n"
        "d.jpg,6,,\n"
        ",7,,\n"
        "too,many,cells,here,x\n"
    )
    names = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    batch_id = room.read(
        zipped({**dict(zip(names, PICTURES, strict=True)), "manifest.csv": manifest.encode()})
    )
    assert [(job.entry_name, job.age) for job in room.jobs(batch_id)] == [("d.jpg", 5)]
    told = [(row.entry, row.name, row.slug) for row in room.rejected(batch_id)]
    assert told == [
        (0, "a.jpg", "invalid-request"),
        (1, "b.jpg", "invalid-request"),
        (2, "c.jpg", "pipeline-unavailable"),
        (4, "missing.jpg", "not-found"),
        (5, "d.jpg", "invalid-request"),
        (6, "", "invalid-request"),
        (7, "", "invalid-request"),
    ]
    assert room.rejected(batch_id)[0].errors == [
        {"detail": "must be a whole number in digits", "pointer": "/age"}
    ]


@pytest.mark.parametrize(
    "files",
    [
        {"manifest.csv": b"filename,quesiton\na.jpg,x\n"},
        {"manifest.csv": b"question\nx\n"},
        {"manifest.csv": b"filename\n\xff\xfe\n"},
        {"manifest.csv": b""},
        {"manifest.csv": b"filename\n", "x/manifest.jsonl": b""},
    ],
)
def test_a_manifest_that_cannot_be_used_fails_the_batch_before_any_job(
    desk: Open, files: dict[str, bytes]
) -> None:
    room = desk()
    batch_id = room.read(zipped({"a.jpg": PICTURES[0], **files}))
    row = room.batch(batch_id)
    assert (row.status, row.error_slug) == ("failed", "invalid-manifest")
    assert row.completed_at is not None
    assert room.jobs(batch_id) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_archive_fails_the_batch_and_keeps_what_came_before(desk: Open, kind: str) -> None:
    room = desk(archive_group=1)
    files = {f"{number:02}.jpg": data for number, data in enumerate(pictures(20))}
    archive = packed(kind, files)
    batch_id = room.read(archive[: len(archive) * 2 // 3])
    row = room.batch(batch_id)
    assert row.error_slug == "broken-archive"
    jobs = room.jobs(batch_id)
    assert row.status == ("running" if jobs else "failed")
    if kind != "zip":  # whose directory is at its end
        assert 5 < len(jobs) < 20
        assert [job.entry for job in jobs] == list(range(len(jobs)))


@pytest.mark.parametrize("data", [b"", b"hello", b"Rar!\x1a\x07\x01\x00" + b"\0" * 600, b"\x1f\x8bgarbage"])
def test_what_is_no_archive_fails_the_batch(desk: Open, data: bytes) -> None:
    room = desk()
    batch_id = room.hand_in()
    room.storage.append(f"{batch_id}/archive", 0, [data])
    room.archives.message([batch_id])
    assert room.batch(batch_id).status == "failed"
    assert room.batch(batch_id).error_slug in ("unsupported-archive", "broken-archive")


def test_an_archive_that_was_erased_fails_the_batch(desk: Open) -> None:
    room = desk()
    batch_id = room.hand_in()
    room.archives.message([batch_id])
    assert (room.batch(batch_id).status, room.batch(batch_id).error_slug) == ("failed", "not-found")


def test_an_empty_archive_completes_at_once(desk: Open) -> None:
    room = desk()
    for archive in (zipped({}), tarred({})):
        row = room.batch(room.read(archive))
        assert (row.status, row.accepted, row.error_slug) == ("completed", 0, None)


def test_a_canceled_batch_is_not_read_and_a_second_message_does_nothing(desk: Open) -> None:
    room = desk()
    batch_id = room.hand_in(zipped({"a.jpg": PICTURES[0]}))
    assert batches.cancel(room.db, batch_id)
    assert room.archives.message([batch_id]) == 0
    other = room.read(zipped({"a.jpg": PICTURES[0]}))
    assert room.archives.message([other]) == 0
    assert len(room.jobs(other)) == 1


def test_a_worker_that_is_to_stop_gives_back_what_it_reads_and_another_goes_on(desk: Open) -> None:
    first, second = desk(archive_group=2), desk()
    names = [f"{number}.jpg" for number in range(7)]
    batch_id = first.hand_in(tarred(dict.fromkeys(names, PICTURES[0])))
    first.archives.stop()
    first.archives.message([batch_id])
    row = first.batch(batch_id)
    assert (row.status, row.entry, row.claim_id, row.failures) == ("receiving", 2, None, 0)
    second.archives.message([batch_id])
    assert [job.entry_name for job in second.jobs(batch_id)] == names


def test_a_rerun_takes_the_pictures_of_the_jobs_that_failed(desk: Open, database: Any) -> None:
    room = desk()
    manifest = b"filename,custom_id,label,question\n1.jpg,P-1,nv,why?\n"
    files = {f"{number}.jpg": PICTURES[number] for number in range(4)}
    old = room.read(zipped({**files, "manifest.csv": manifest}))
    by_entry = {job.entry: job for job in room.jobs(old)}
    for entry, status in ((0, "succeeded"), (1, "failed"), (2, "expired"), (3, "canceled")):
        database.write(
            lambda s, e=entry, st=status: setattr(s.get(type(by_entry[e]), by_entry[e].id), "status", st)
        )
    again = room.read(rerun_of=old, rerun_only="failed")
    jobs = room.jobs(again)
    assert [(job.entry, job.retry_of) for job in jobs] == [(1, by_entry[1].id), (2, by_entry[2].id)]
    assert (jobs[0].custom_id, jobs[0].true_label, jobs[0].question) == ("P-1", "nv", "why?")
    assert room.storage.get(f"{jobs[0].id}/image") == room.storage.get(f"{by_entry[1].id}/image")
    assert len(room.jobs(room.read(rerun_of=old, rerun_only="all"))) == 4


def test_a_zip_with_something_before_it_is_read(desk: Open) -> None:
    room = desk()
    out = io.BytesIO(b"PK\x03\x04")
    out.seek(0, 2)
    out.write(b"self-extractor" * 100)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("a.jpg", PICTURES[0])
    assert len(room.jobs(room.read(out.getvalue()))) == 1
