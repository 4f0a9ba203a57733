"""Archives that mean harm: every one ends, in little memory, with its problem said."""

import gzip
import io
import json
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from shared.settings import ROOT
from tests.packing import overlapping_zip, pictures, quoting_zip, tarred, zipped
from tests.shared_data import shared_data
from tests.workers.conftest import Desk

PICTURE = pictures(1)[0]
Told = dict[str, Any]


def read_limited(*paths: Path) -> list[Told]:
    """In a child process that may take 160 MB beyond its libraries."""
    command = [sys.executable, "-m", "tests.workers.read_limited", *map(str, paths)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def told(tmp_path: Path) -> Callable[[bytes], Told]:
    def read(data: bytes) -> Told:
        path = tmp_path / "archive"
        path.write_bytes(data)
        return read_limited(path)[0]

    return read


def with_tar(*members: tarfile.TarInfo, **keywords: Any) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **keywords) as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(b"x" * member.size))
    return out.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def patched(data: bytes, signature: bytes, offset: int, new: bytes) -> bytes:
    """Bytes of the last header with this signature, replaced."""
    at = data.rindex(signature) + offset
    return data[:at] + new + data[at + len(new) :]


@pytest.mark.parametrize("name", ["zip-slip.zip", "zip-slip-win.zip", "zip-slip.tar", "zip-slip-win.tar"])
def test_paths_that_lead_out_are_refused_by_name(told: Any, name: str) -> None:
    found = told((shared_data("hostile") / "archives" / name).read_bytes())
    assert found["end"] == "end"
    assert found["told"]["unsafe-name"] == 1


def test_every_archive_of_the_fuzz_corpus_ends_in_little_memory(tmp_path: Path) -> None:
    with zipfile.ZipFile(shared_data("hostile") / "archives_fuzz.zip") as corpus:
        corpus.extractall(tmp_path)
    paths = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    found = read_limited(*paths)
    assert len(found) == len(paths) > 600
    assert {one["end"] for one in found} <= {
        "end",
        "broken-archive",
        "unsupported-archive",
        "upload-too-large",
    }


@pytest.mark.parametrize(
    "name", ["/etc/a.jpg", "C:\\a.jpg", "..\\a.jpg", "a/../../b.jpg", "a\x07.jpg", "x" * 2000]
)
def test_names_that_are_no_plain_paths_are_refused(told: Any, name: str) -> None:
    for archive in (zipped({name: PICTURE, "b.jpg": PICTURE}), tarred({name: PICTURE, "b.jpg": PICTURE})):
        assert told(archive)["told"] == {"unsafe-name": 1, "read": 1}


def test_names_that_are_not_utf8_are_refused(told: Any) -> None:
    archive = zipped({"name.jpg": PICTURE, "b.jpg": PICTURE}).replace(b"name.jpg", b"n\xe9me.jpg")
    assert told(archive)["told"] == {"unsafe-name": 1, "read": 1}
    tar = with_tar(member("n\udce9me.jpg"), format=tarfile.GNU_FORMAT, errors="surrogateescape")
    assert told(tar)["told"] == {"unsafe-name": 1}


def test_links_devices_and_sparse_files_are_no_files(told: Any) -> None:
    kinds = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
    links = [member(f"{number}.jpg", kind, linkname="/etc/passwd") for number, kind in enumerate(kinds)]
    sparse = member("s.jpg", size=3, pax_headers={"GNU.sparse.major": "1"})
    found = told(with_tar(*links, sparse, member("b.jpg", size=10), format=tarfile.PAX_FORMAT))
    assert found == {"path": "archive", "told": {"no-regular-file": 6, "read": 1}, "end": "end"}

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("link.jpg")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    assert told(out.getvalue())["told"] == {"no-regular-file": 1}


def test_encrypted_and_oddly_packed_entries_are_refused(told: Any) -> None:
    plain = zipped({"a.jpg": PICTURE})
    assert told(patched(plain, b"PK\x01\x02", 8, b"\x01\x00"))["told"] == {"encrypted-entry": 1}
    assert told(patched(plain, b"PK\x01\x02", 10, struct.pack("<H", 98)))["told"] == {"damaged-entry": 1}
    assert told(zipped({"a.jpg": PICTURE}, zipfile.ZIP_BZIP2))["told"] == {"read": 1}


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (24, len(PICTURE) - 1),  # shorter than it unpacks to
        (24, len(PICTURE) + 1),
        (20, 10),  # packed
        (16, 1),  # checksum
        (42, 3),  # where its header is
        (42, 10**8),
    ],
)
def test_directories_that_lie_cost_the_entry(told: Any, offset: int, value: int) -> None:
    lying = patched(zipped({"a.jpg": PICTURE}), b"PK\x01\x02", offset, struct.pack("<L", value))
    assert told(lying)["told"] == {"damaged-entry": 1}


def test_a_local_header_with_another_name_costs_the_entry(told: Any) -> None:
    archive = zipped({"a.jpg": PICTURE}).replace(b"a.jpg", b"b.jpg", 1)
    assert told(archive)["told"] == {"damaged-entry": 1}


def test_a_directory_that_claims_another_number_of_entries_is_broken(told: Any) -> None:
    archive = zipped({"a.jpg": PICTURE})
    assert told(patched(archive, b"PK\x05\x06", 10, b"\x07\x00"))["end"] == "broken-archive"


def test_bombs_in_a_zip_are_not_unpacked(told: Any) -> None:
    assert told(zipped({"a.bmp": b"\0" * (19 * 2**20)}))["told"] == {"upload-too-large": 1}
    assert told(zipped({"a.bmp": b"\0" * (60 * 2**20)}))["told"] == {"upload-too-large": 1}


def test_overlapping_entries_are_refused_but_for_the_last(told: Any) -> None:
    assert told(overlapping_zip(5000, PICTURE))["told"] == {"damaged-entry": 4999, "read": 1}


def test_entries_that_quote_those_behind_them_are_refused(told: Any) -> None:
    found = told(quoting_zip(250, 2**20))
    assert found["end"] == "end"
    assert found["told"]["damaged-entry"] == 249


def test_a_zip_in_itself_is_a_file_that_is_no_picture(desk: Callable[..., Desk]) -> None:
    room = desk()
    inner = zipped({"inner.jpg": PICTURE})
    for _ in range(20):
        inner = zipped({"again.zip": inner})
    batch_id = room.read(inner)
    assert room.problems(batch_id) == {"again.zip": "unsupported-image"}


@pytest.mark.parametrize("pack", [lambda data: gzip.compress(data, 9), zstandard.compress])
def test_a_packed_tar_of_zeros_stops_at_the_limit(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """Three gigabytes in three megabytes, or less: members of a packed file may follow each other."""
    header = member("zeros.bmp", size=3 * 2**30).tobuf(tarfile.GNU_FORMAT)
    block = pack(b"\0" * 2**26)
    path = tmp_path / "archive"
    path.write_bytes(pack(header) + block * 48)
    (found,) = read_limited(path)
    assert found == {"path": "archive", "told": {"upload-too-large": 1}, "end": "upload-too-large"}


def test_headers_without_end_or_measure_are_broken(told: Any) -> None:
    huge = member("././@LongLink", tarfile.GNUTYPE_LONGNAME, size=2**33).tobuf(tarfile.GNU_FORMAT)
    assert told(huge + b"a" * 4096)["end"] == "broken-archive"
    attributes = member("x", tarfile.XHDTYPE, size=20).tobuf(tarfile.USTAR_FORMAT)
    for records in (b"99 path=a\n", b"0 path=a\n", b"x" * 20, b"12 size=-1\n\0"):
        assert told(attributes + records.ljust(512, b"\0"))["end"] == "broken-archive"
    negative = patched(member("a.jpg").tobuf(tarfile.GNU_FORMAT), b"a.jpg", 124, b"\xff" * 12)
    assert told(negative)["end"] in ("broken-archive", "unsupported-archive")


def test_more_entries_than_allowed_fail_the_batch_before_any_job(desk: Callable[..., Desk]) -> None:
    room = desk(max_entries=50)
    for archive in (zipped(names(51)), tarred(names(51))):
        row = room.batch(room.read(archive))
        assert (row.status, row.error_slug, row.accepted) == ("failed", "upload-too-large", 0)
    assert room.batch(room.read(zipped(names(50)))).error_slug is None


def test_folders_without_end_are_too_many_entries_as_well(desk: Callable[..., Desk]) -> None:
    room = desk(max_entries=1)
    row = room.batch(room.read(tarred({f"{number}/": b"" for number in range(1100)})))
    assert row.error_slug == "upload-too-large"


def test_a_hundred_thousand_and_one_entries_are_walked_in_little_memory(tmp_path: Path) -> None:
    for name, pack in (("zip", zipped), ("tar", tarred)):
        (tmp_path / name).write_bytes(pack(dict(names(100_001))))
        (found,) = read_limited(tmp_path / name)
        assert (found["told"], found["end"]) == ({"read": 100_000}, "upload-too-large")


def names(count: int) -> dict[str, bytes]:
    return {f"{number:06}.txt": b"" for number in range(count)}


def test_a_name_that_stands_twice_is_accepted_once(desk: Callable[..., Desk]) -> None:
    room = desk()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("a.jpg", "./a.jpg", "b//a.jpg", "b/a.jpg", "b/./a.jpg"):
            info = member(name, size=len(PICTURE))
            archive.addfile(info, io.BytesIO(PICTURE))
    batch_id = room.read(out.getvalue())
    assert [job.entry_name for job in room.jobs(batch_id)] == ["a.jpg", "b/a.jpg"]
    assert [row.slug for row in room.rejected(batch_id)] == ["duplicate-entry"] * 3


def test_names_that_cannot_be_shown_are_escaped_in_the_list(desk: Callable[..., Desk]) -> None:
    room = desk()
    batch_id = room.read(tarred({"a\x1b[31m.jpg": PICTURE}))
    assert room.problems(batch_id) == {"a\\x1b[31m.jpg": "unsafe-name"}
