"""The Makefile: every target is listed with its text, and set-up and arguments behave as promised."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = sorted(set(re.findall(r"^([a-z][a-z-]*):", TEXT, re.MULTILINE)))


def make(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run make on its own: not as a part of the make that may have started the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", "--no-print-directory", *words],
        cwd=ROOT,
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def dry(*words: str, **environment: str) -> str:
    """What make would run, as if the set-up were done."""
    return make("-n", "-o", ".venv/.installed", *words, **environment).stdout


def test_make_alone_lists_every_target_with_its_text() -> None:
    listed = dict(re.findall(r"^  make ([a-z-]+) +(\S.*)$", make().stdout, re.MULTILINE))
    assert sorted(listed) == TARGETS
    assert make("help").stdout == make().stdout


@pytest.mark.parametrize("target", TARGETS)
def test_targets_are_phony(target: str) -> None:
    phony = re.search(r"^\.PHONY: (.*)$", TEXT, re.MULTILINE)
    assert phony
    assert target in phony[1].split()


@pytest.mark.parametrize("target", ["train", "evaluate"])
@pytest.mark.parametrize("given", [[], ["PIPELINE=skin"], ["DATA=somewhere"]])
def test_what_is_missing_is_named_with_an_example(target: str, given: list[str]) -> None:
    done = make("-n", "-o", ".venv/.installed", target, *given)
    missing = "DATA" if given == ["PIPELINE=skin"] else "PIPELINE"
    assert done.returncode
    assert f"{missing} is missing, as in: make {target} PIPELINE=skin DATA=" in done.stderr


def test_arguments_reach_the_programs() -> None:
    train = dry("train", "PIPELINE=skin", "DATA=my data", "CONFIG=a.toml", "OUT=b")
    assert '--pipeline "skin" --data "my data" --config "a.toml" --out "b"' in train
    assert '--split "test"' in dry("evaluate", "PIPELINE=skin", "DATA=d")
    assert '--split "val"' in dry("evaluate", "PIPELINE=skin", "DATA=d", "SPLIT=val")
    assert "pytest tests/api -k cancel" in dry("test", "ARGS=tests/api -k cancel")


@pytest.mark.parametrize("question", ['Is it "bad"; or `not`?', "두 개의 점", ""])
def test_a_question_reaches_the_demo_whatever_it_holds(question: str, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nfor word in "$@"; do printf "%s\\n" "<$word>"; done\n')
    python.chmod(0o755)
    done = make("-o", ".venv/.installed", "demo", f"PY={python}", f"QUESTION={question}", "IMAGE=a b.jpg")
    assert done.returncode == 0, done.stderr
    asked = f"<--question>\n<{question}>\n" if question else ""
    assert done.stdout == f"<-m>\n<deploy.demo>\n<--image>\n<a b.jpg>\n{asked}"


def test_a_machine_without_a_fitting_python_is_told_what_to_install(tmp_path: Path) -> None:
    for name in ("python3.11", "python3.12", "python3", "python"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "Makefile").write_text(TEXT)
    (tmp_path / "deploy").mkdir()
    for name in ("requirements.txt", "deploy/without_dependencies.txt", "pyproject.toml"):
        (tmp_path / name).touch()
    done = make("-C", str(tmp_path), "run", PATH=f"{tmp_path}:/usr/sbin:/usr/bin:/bin")
    assert done.returncode
    assert "needs Python 3.11 or 3.12" in done.stderr
    assert "python3-venv" in done.stderr
