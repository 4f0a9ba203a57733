"""The images' recipe, which cannot be built where the tests run: what it names is there, and what rooms import is in it."""

import configparser
import importlib.metadata
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from shared.settings import ROOT
from tests.test_architecture import in_room, reached

FOLDER = ROOT / "deploy/images"
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")


def packages(file: Path) -> set[str]:
    """Names without extras and versions, as importlib spells them."""
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    return {re.split(r"[\[=]", line)[0].lower().replace("_", "-") for line in lines}


API = packages(FOLDER / "api.txt")
WORKER = packages(FOLDER / "worker.txt") | API


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, FOLDER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_images_hold_only_what_is_pinned() -> None:
    assert packages(ROOT / "requirements.txt") >= WORKER


def missing(room: str, held: set[str]) -> set[str]:
    """Packages that the modules of a room import, also through other rooms of ours, and that are not held."""
    known = importlib.metadata.packages_distributions()
    names = {name.split(".")[0] for module in in_room(room) for name in reached(module)}
    wanted = [{one.lower().replace("_", "-") for one in known[name]} for name in names if name in known]
    brought = {"medq", "werkzeug", "flask-openapi3-swagger", "httpcore"}  # along with flask and httpx
    return {", ".join(sorted(any_of)) for any_of in wanted if not any_of & (held | brought)}


@pytest.mark.parametrize(
    ("room", "held"),
    [("api", API), ("migrations", API), ("workers", WORKER)],
    ids=["api", "migrations", "workers"],
)
def test_what_a_room_imports_is_in_its_image(room: str, held: set[str]) -> None:
    assert missing(room, held) == set()


def test_the_apis_image_holds_no_torch_and_no_tests_tools() -> None:
    assert not API & {"torch", "torchvision", "openvino", "pytest", "playwright"}
    assert not WORKER & {"pytest", "hypothesis", "ruff", "mypy", "schemathesis", "playwright", "supervisor"}


def test_everything_that_is_copied_exists_and_is_not_ignored() -> None:
    let_in = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    sources = [
        word for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]
    ]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(source == name or source.startswith(f"{name}/") for name in let_in), source


def test_processes_do_not_run_as_root() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[2:]
    assert [stage.split()[2] for stage in stages] == ["api", "worker"]
    for stage in stages:
        assert "\nUSER 10001\n" in stage
        assert "\nHEALTHCHECK " in stage


def test_the_api_starts_as_supervisor_starts_it() -> None:
    """But for what supervisord.conf takes from settings."""
    config = configparser.RawConfigParser(inline_comment_prefixes=(";",))
    config.read(ROOT / "deploy/supervisord.conf")
    usual = shlex.split(config["program:api"]["command"])[2:]
    (words,) = re.findall(r"^CMD \[(\"granian\".+?)\]$", DOCKERFILE, re.MULTILINE | re.DOTALL)
    own = re.findall(r'"([^"]+)"', words)
    assert [word for word in own if word.startswith("--")] == [
        word for word in usual if word.startswith("--")
    ]
    assert [
        one for one, other in zip(own, usual, strict=True) if one != other and "ENV_RUN" not in other
    ] == []
