"""`medq key` on a database of its own, and what the keys that it makes open."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from typer.testing import CliRunner, Result

from api import cli
from shared.webhooks import secret_of
from tests.api.driving import ONE_DATABASE
from tests.api.people import with_key

Medq = Callable[..., Result]


@pytest.fixture
def medq(tmp_path: Path) -> Medq:
    env = {"MEDQ_DATA_DIR": str(tmp_path / "new")}
    return lambda *words: CliRunner().invoke(cli.app, ["key", *words], env=env)


def made(medq: Medq, *words: str) -> dict[str, str]:
    result = medq("create", *words, "--json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, str] = json.loads(result.stdout)
    return found


def test_a_key_is_shown_once_and_alone_on_its_line(medq: Medq) -> None:
    result = medq("create", "lab")
    assert result.exit_code == 0, result.stderr
    key = result.stdout.strip()
    assert key.startswith("mq_")
    assert len(result.stdout.splitlines()) == 1
    assert "shown here only" in result.stderr
    assert key not in medq("list").stdout + medq("list", "--json").stdout


def test_keys_are_listed_with_what_they_may(medq: Medq) -> None:
    key_id = made(medq, "lab", "--scope", "read", "--scope", "review", "--per-minute", "9", "--days", "2")[
        "id"
    ]
    made(medq, "other")
    (listed,) = map(json.loads, medq("list", "--owner", "lab", "--json").stdout.splitlines())
    assert (listed["id"], listed["scopes"], listed["per_minute"]) == (key_id, "read review", 9)
    assert listed["expires_at"]
    assert listed["revoked_at"] is None
    assert "submit read" in medq("list").stdout


def test_a_revoked_key_says_so(medq: Medq) -> None:
    key_id = made(medq, "lab")["id"]
    assert medq("revoke", key_id).exit_code == 0
    assert json.loads(medq("list", "--json").stdout)["revoked_at"]
    assert "before" in medq("revoke", key_id).stderr
    assert medq("revoke", "nothing").exit_code == 1


@pytest.mark.parametrize("words", [("create", "a b"), ("create", "lab", "--scope", "all"), ("create",)])
def test_bad_usage_is_said(medq: Medq, words: tuple[str, ...]) -> None:
    result = medq(*words)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_a_bad_setting_is_said(tmp_path: Path) -> None:
    env = {"MEDQ_DATA_DIR": str(tmp_path), "MEDQ_DATABASE_URL": "postgresql://x"}
    result = CliRunner().invoke(cli.app, ["key", "list"], env=env)
    assert result.exit_code == 2
    assert "MEDQ_DATABASE_URL" in result.stderr


def test_the_webhooks_secret_is_shown_to_whoever_has_the_servers() -> None:
    env = {"MEDQ_WEBHOOK_SECRET": "0123456789abcdef0123456789abcdef"}
    shown = CliRunner().invoke(cli.app, ["key", "secret", "lab"], env=env)
    assert shown.stdout.strip() == secret_of(env["MEDQ_WEBHOOK_SECRET"], "lab")
    assert CliRunner().invoke(cli.app, ["key", "secret", "lab"]).exit_code == 1
    short = CliRunner().invoke(cli.app, ["key", "secret"], env={"MEDQ_WEBHOOK_SECRET": "short"})
    assert (short.exit_code, "MEDQ_WEBHOOK_SECRET" in short.stderr) == (2, True)


@ONE_DATABASE
def test_the_key_opens_the_server(start: Callable[..., Flask], database_url: str) -> None:
    env = {"MEDQ_DATABASE_URL": database_url}
    result = CliRunner().invoke(cli.app, ["key", "create", "lab"], env=env)
    client = with_key(start(auth="keys"), result.stdout.strip())
    assert client.get("/v1/session").get_json()["owner"] == "lab"
