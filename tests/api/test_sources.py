"""What the client sends: a folder as a tar that begins anywhere, and what is remembered of it."""

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.memory import MOST, Memory
from api.sources import FileSource, FolderSource, source_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "study"
    (root / "b").mkdir(parents=True)
    (root / ".git").mkdir()
    for name, size in (("z.jpg", 1), ("b/a.jpg", 1024), ("a.jpg", 700_000), ("empty.jpg", 0), (".hidden", 3)):
        (root / name).write_bytes(bytes([size % 251]) * size)
    (root / ".git" / "config").write_text("x")
    (root / ("x" * 200 + ".jpg")).write_bytes(b"long")
    (root / "manifest.csv").write_text("filename\n")
    (root / "link.jpg").symlink_to(root / "z.jpg")
    Path(os.fsdecode(os.fsencode(root) + b"/m\xf6le.jpg")).write_bytes(b"latin")
    return root


def whole(source: FolderSource) -> bytes:
    return b"".join(source.read(0))


def test_a_folder_is_a_tar_of_its_files_manifest_first(folder: Path) -> None:
    source = FolderSource(folder)
    data = whole(source)
    assert (source.name, source.size) == ("study.tar", len(data))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = archive.getmembers()
        names = [os.fsencode(member.name) for member in members]
        assert names[0] == b"manifest.csv"
        assert set(names[1:]) == {
            b"a.jpg", b"b/a.jpg", b"empty.jpg", b"m\xf6le.jpg", b"x" * 200 + b".jpg", b"z.jpg",
        }  # fmt: skip
        for member in members:
            content = archive.extractfile(member)
            assert content
            assert content.read() == (folder / member.name).read_bytes()
            assert (member.mtime, member.uid, member.uname) == (0, 0, "")


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_it_begins_anywhere(folder: Path, data: st.DataObject) -> None:
    source = FolderSource(folder)
    offset = data.draw(st.integers(0, source.size))
    assert b"".join(source.read(offset)) == whole(source)[offset:]


def test_a_file_begins_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(bytes(range(256)) * 3000)
    source = source_of(path)
    assert isinstance(source, FileSource)
    assert (source.name, source.size) == ("a.zip", 768_000)
    for offset in (0, 1, 300_001, 768_000):
        assert b"".join(source.read(offset)) == path.read_bytes()[offset:]


def test_a_changed_folder_is_another_one(folder: Path) -> None:
    before = FolderSource(folder).identity
    assert FolderSource(folder).identity == before
    os.utime(folder / "z.jpg", ns=(1, 1))
    assert FolderSource(folder).identity != before


def test_a_file_that_shrinks_on_its_way_is_said(folder: Path) -> None:
    source = FolderSource(folder)
    (folder / "a.jpg").write_bytes(b"short")
    with pytest.raises(OSError, match="shorter"):
        whole(source)


def test_memory_outlives_its_process_and_forgets_the_oldest(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "uploads.json"
    for number in range(MOST + 5):
        Memory(path).set(f"n{number}", str(number))
    memory = Memory(path)
    assert (memory.get("n4"), memory.get("n5"), memory.get(f"n{MOST + 4}")) == (None, "5", str(MOST + 4))
    memory.forget("n5")
    assert Memory(path).get("n5") is None


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_a_broken_memory_is_no_memory(tmp_path: Path, text: str) -> None:
    path = tmp_path / "uploads.json"
    path.write_text(text)
    memory = Memory(path)
    assert memory.get("a") is None
    memory.set("a", "1")
    assert memory.get("a") == "1"
    Memory(tmp_path / "uploads.json" / "below a file").set("a", "1")  # cannot be written, and nobody minds
