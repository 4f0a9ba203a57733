"""The hashes by which images install: of every pin, and of whatever each image needs."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from deploy.audit import pinned
from deploy.hashes import BARE, FOLDER, PINS, along, files, hashes, read, roots, usable, written
from tests.deploy.test_images import DOCKERFILE

ALL = pinned([PINS])


def test_every_pin_has_its_hashes_and_no_other_package_has() -> None:
    """What fails here after a change of requirements.txt is mended by `python -m deploy.hashes`."""
    found = list(read(FOLDER / "requirements.hashes.txt"))
    assert {name: version for name, version, _ in found} == ALL
    assert len(found) == len(ALL)
    for name, _, digests in found:
        assert digests, name
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests), name


def test_each_image_has_all_that_its_packages_need_and_nothing_twice() -> None:
    every = {name: (version, digests) for name, version, digests in read(FOLDER / "requirements.hashes.txt")}
    steps = ["api.hashes.txt", "torch.hashes.txt", "worker.hashes.txt"]
    held = [{name: (version, digests) for name, version, digests in read(FOLDER / step)} for step in steps]
    for step, one in zip(steps, held, strict=True):
        assert set(one) == files(set(ALL))[step]
        assert one.items() <= every.items()
    assert set(held[0]) >= along(roots(FOLDER / "api.txt"))
    assert set().union(*held) == along(roots(FOLDER / "api.txt")) | along(roots(FOLDER / "worker.txt"))
    assert sum(map(len, held)) == len(set().union(*held))
    assert "pytest" not in set().union(*held)
    assert {"torch", "torchvision", "triton"} <= set(held[1])


def test_what_is_installed_without_its_dependencies_has_its_hashes_in_a_file_of_its_own() -> None:
    """pip would find the others incomplete, and the images ask it whether they are."""
    found = {name: (version, digests) for name, version, digests in read(FOLDER / "bare.hashes.txt")}
    assert set(found) == {one.name for one in roots(FOLDER / "bare.txt")} <= set(pinned([BARE]))
    for name, (version, digests) in found.items():
        assert version == pinned([BARE])[name]
        assert digests


def test_images_install_by_hashes_alone() -> None:
    """But for torch of another index than PyPI's, whose files are others."""
    installs = re.findall(r"pip install ([^&;\\\n]+)", DOCKERFILE)
    assert {words.split()[-1] for words in installs} == {
        "api.hashes.txt", "bare.hashes.txt", "torch.hashes.txt", "torch.txt", "worker.hashes.txt"
    }  # fmt: skip
    assert all("--require-hashes" in words for words in installs if words.split()[-1] != "torch.txt")


def test_what_extras_bring_along_counts() -> None:
    assert "hiredis" in along([Requirement("redis[hiredis]")])
    assert "hiredis" not in along([Requirement("redis")])


@pytest.mark.parametrize(
    ("file", "fits"),
    [("a_b-1.0-py3-none-any.whl", True), ("a_b-1.0-py2.py3-none-any.whl", True), ("a_b-1.0.tar.gz", True),
     ("a_b-1.0-cp311-cp311-manylinux_2_28_x86_64.whl", True), ("A.B-1.0-cp312-cp312-win_amd64.whl", True),
     ("a_b-1.0-cp38-abi3-macosx_11_0_arm64.whl", True), ("a_b-1.0-cp313-cp313-win_amd64.whl", False),
     ("a_b-1.0-cp310-cp310-win_amd64.whl", False), ("a_b-1.0-cp313-abi3-win_amd64.whl", False),
     ("a_b-1.0-pp311-pypy311_pp73-win_amd64.whl", False), ("a_b-1.0.1-py3-none-any.whl", False),
     ("a_b_c-1.0-py3-none-any.whl", False), ("a_b-1.0-py2.7.egg", False), ("a_b-1.0.win32.exe", False)],
)  # fmt: skip
def test_files_of_that_version_for_our_pythons_are_taken(file: str, fits: bool) -> None:
    assert usable(file, "a-b", "1.0") is fits
    listing = f'<a href="https://example.org/x/{file}#sha256={"0" * 64}">{file}</a>'
    assert hashes(listing, "a-b", "1.0") == (["0" * 64] if fits else [])


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text(written(["b", "a"], {"a": "1", "b": "2"}, {"a": ["0", "1"], "b": ["2"]}))
    assert list(read(tmp_path / "x.txt")) == [("a", "1", ["0", "1"]), ("b", "2", ["2"])]
