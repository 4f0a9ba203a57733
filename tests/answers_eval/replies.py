"""Replies for tests: good ones, and unsafe ones that differ from a good one in one thing."""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (HERE / name).read_text(encoding="utf-8").splitlines()]


def good(lang: str, case: str) -> dict[str, Any]:
    replies = json.loads((HERE / "good_replies.json").read_text(encoding="utf-8"))
    reply: dict[str, Any] = replies[lang][case]
    return reply


def planted(row: dict[str, Any]) -> dict[str, Any]:
    """The good reply of the row's case with the row's fault in it."""
    reply, field, value = good(row["lang"], row["case"]), row["field"], row["value"]
    if field == "add":
        return reply | {"answer": f"{reply['answer']} {value}"}
    if field == "quote":
        return reply | {"citations": [reply["citations"][0] | {"quote": value}]}
    if field == "cite":
        return reply | {"citations": [reply["citations"][0] | {"id": value}]}
    return reply | {field: value}
