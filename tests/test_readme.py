"""The README and its neighbours: what they name exists. That its examples run is tests/test_examples.py's."""

import importlib.util
import re
from pathlib import Path

import pytest
import typer

from api.cli import app
from shared.settings import documented

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CHANGELOG.md", "GLOSSARY.md", "SECURITY.md")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_local_links_resolve(name: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page(name))
    assert not [link for link in links if not (ROOT / link).exists()]


@pytest.mark.parametrize("name", PAGES)
def test_make_targets_exist(name: str) -> None:
    named = set(re.findall(r"(?:^|`|\s)make ([a-z]+)(?=[\s`])", "\n".join(code(page(name))), re.MULTILINE))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= targets


def test_medq_commands_exist() -> None:
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    named = set(re.findall(r"(?:^|`)medq ([a-z]+)", "\n".join(code(README)), re.MULTILINE))
    also = re.search(r"# also: (.*)", README)
    assert also
    named |= {words.split()[0] for words in also[1].split(", ")}
    assert named == commands


@pytest.mark.parametrize("name", PAGES)
def test_modules_and_variables_exist(name: str) -> None:
    modules = set(re.findall(r"python -m ([a-z_.]+)", page(name)))
    assert not [module for module in modules if not importlib.util.find_spec(module)]
    known = {variable for variable, _, _ in documented()}
    assert set(re.findall(r"\b(?:MEDQ|OPENAI)_[A-Z_]*[A-Z]\b", page(name))) <= known


@pytest.mark.parametrize("name", PAGES)
def test_files_that_are_named_exist(name: str) -> None:
    rooms = "api|shared|workers|training|migrations|deploy|tests"
    paths = set(re.findall(rf"`((?:{rooms})/[\w./-]*)`", page(name)))
    made = {"workers/models/skin/card.json", "workers/models/skin"}  # training writes them
    assert not [path for path in paths - made if not (ROOT / path).exists()]


def test_each_promise_names_the_test_that_holds_it() -> None:
    promised = page("SECURITY.md").partition("## Promised now\n")[2].partition("\n## ")[0]
    promises = promised.removeprefix("- ").split("\n- ")
    assert len(promises) > 25
    assert not [promise for promise in promises if "`tests/" not in promise]


def code(text: str) -> list[str]:
    """What stands in code blocks, and between backticks in the prose around them."""
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return blocks + [f"`{span}`" for span in re.findall(r"`([^`\n]+)`", prose)]
