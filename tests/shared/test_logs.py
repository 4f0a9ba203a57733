"""Logs: one JSON object a line, whoever wrote it, with the ids that are bound."""

import json
import subprocess
import sys
from typing import Any

import pytest

from shared.settings import ROOT

SCRIPT = """
import logging, sys, warnings
import structlog
from shared.logs import bound, configure

configure(sys.argv[1], sys.argv[2], "vision")
log = structlog.get_logger("rooms")
log.info("plain", count=3, name_ko="흑색종")
log.debug("unseen")
structlog.get_logger("shared.queue").debug("ours")
logging.getLogger("openai._base_client").debug("a prompt and a key")
logging.getLogger("bm25s").setLevel("DEBUG")
logging.getLogger("bm25s").debug("what it does")
with bound(job_id="job-1", attempt_id="claim-1"):
    log.warning("within", text='two\\nlines, "quotes" and \\x1b[31m')
    logging.getLogger("library").error("by %s", "the library")
    try:
        1 / 0
    except ZeroDivisionError:
        log.exception("failed")
log.info("after")
"""


def lines(level: str, form: str) -> list[str]:
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, level, form], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stderr == ""
    return run.stdout.splitlines()


@pytest.fixture(scope="module")
def entries() -> dict[str, dict[str, Any]]:
    parsed = [json.loads(line) for line in lines("INFO", "json")]
    return {entry["event"]: entry for entry in parsed}


def test_every_line_is_one_object_that_says_when_who_and_how_bad(entries: dict[str, dict[str, Any]]) -> None:
    assert list(entries) == ["plain", "within", "by the library", "failed", "after"]
    for entry in entries.values():
        assert entry["process"] == "vision"
        assert entry["timestamp"].endswith("Z")
    assert [entry["level"] for entry in entries.values()] == ["info", "warning", "error", "error", "info"]
    assert [entry["logger"] for entry in entries.values()] == ["rooms", "rooms", "library", "rooms", "rooms"]


def test_values_come_through_as_they_are(entries: dict[str, dict[str, Any]]) -> None:
    assert (entries["plain"]["count"], entries["plain"]["name_ko"]) == (3, "흑색종")
    assert entries["within"]["text"] == 'two\nlines, "quotes" and \x1b[31m'


@pytest.mark.parametrize("event", ["within", "by the library", "failed"])
def test_bound_ids_stand_on_every_line_below(entries: dict[str, dict[str, Any]], event: str) -> None:
    assert (entries[event]["job_id"], entries[event]["attempt_id"]) == ("job-1", "claim-1")


@pytest.mark.parametrize("event", ["plain", "after"])
def test_ids_are_bound_no_longer_than_their_block(entries: dict[str, dict[str, Any]], event: str) -> None:
    assert "job_id" not in entries[event]


def test_a_traceback_stays_inside_its_line(entries: dict[str, dict[str, Any]]) -> None:
    assert "ZeroDivisionError" in entries["failed"]["exception"]


def test_debug_shows_our_words_and_not_what_libraries_send() -> None:
    said = [json.loads(line)["event"] for line in lines("DEBUG", "json")]
    assert "ours" in said
    assert not {"a prompt and a key", "what it does"} & set(said)


def test_the_console_is_for_people() -> None:
    text = "\n".join(lines("WARNING", "console"))
    assert "within" in text
    assert "plain" not in text
    assert not text.startswith("{")
