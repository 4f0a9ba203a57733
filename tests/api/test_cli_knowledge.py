"""`medq knowledge` on a database of its own."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from api import cli

Medq = Callable[..., Result]
HEADER = "---\ntitle: Moles\nsource: Example Hospital\ndate: 2026-03-01\n---\n"


@pytest.fixture
def medq(tmp_path: Path) -> Medq:
    env = {"MEDQ_DATA_DIR": str(tmp_path / "new")}
    return lambda *words: CliRunner().invoke(cli.app, ["knowledge", *map(str, words)], env=env)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "moles.md").write_text(HEADER + "We see moles on Mondays.")
    return tmp_path / "texts"


def test_texts_are_added_listed_and_removed(medq: Medq, folder: Path) -> None:
    added = medq("add", folder, "--json")
    assert added.exit_code == 0, added.stderr
    text = json.loads(added.stdout)
    assert (text["file"], text["how"], text["passages"]) == ("moles.md", "added", 1)
    (listed,) = map(json.loads, medq("list", "--json").stdout.splitlines())
    assert (listed["id"], listed["title"], listed["date"]) == (text["id"], "Moles", "2026-03-01")
    assert "Example Hospital" in medq("list").stdout
    assert "unchanged" in medq("add", folder).stdout
    assert medq("remove", text["id"]).exit_code == 0
    assert medq("remove", text["id"]).exit_code == 1
    assert "No texts yet" in medq("list").stdout


def test_one_fault_adds_nothing_and_every_fault_is_told(medq: Medq, folder: Path) -> None:
    (folder / "a.md").write_text("no header")
    (folder / "b.txt").write_bytes(b"\xff")
    result = medq("add", folder)
    assert result.exit_code == 2
    assert "a.md: must begin" in result.stderr
    assert "b.txt: is not UTF-8" in result.stderr
    assert medq("list", "--json").stdout == ""


def test_a_terminal_is_safe_from_what_a_text_is_called(medq: Medq, folder: Path) -> None:
    (folder / "\x1b[31m.md").write_text("no header")
    assert "\x1b" not in medq("add", folder).stderr
