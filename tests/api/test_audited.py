"""Who submitted, read, changed and erased what stands in the audit log before the answer is seen."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from shared import audit
from shared.database import Database
from tests.api.batching import accepted, pictures, zipped
from tests.api.driving import ONE_DATABASE, Worker, assert_problem, submitted
from tests.api.people import Person, belongings

pytestmark = ONE_DATABASE


@pytest.fixture
def app(start: Callable[..., Flask]) -> Flask:
    return start(auth="keys", webhook_secret="0123456789abcdef" * 2, webhook_allow="127.0.0.1")


def log(database: Database, subject: str) -> list[tuple[str, str, str]]:
    """(actor, owner, action), the oldest first."""
    rows = reversed(audit.entries(database, subject, 100))
    return [(row.actor, row.owner, row.action) for row in rows]


def test_a_jobs_life_stands_in_the_log(app: Flask, database: Database) -> None:
    anna = Person(app, "anna")
    job_id = submitted(anna.client)["id"]
    for _ in range(3):
        anna.client.get(f"/v1/jobs/{job_id}")
    anna.client.get(f"/v1/jobs/{job_id}/artifacts/image", buffered=True)
    anna.client.post(f"/v1/jobs/{job_id}/cancel")
    anna.client.delete(f"/v1/jobs/{job_id}")
    assert log(database, job_id) == [
        (anna.key_id, "anna", action) for action in ("submit", "read", "change", "erase")
    ]


def test_a_list_is_a_read_of_what_it_shows(app: Flask, database: Database, worker: Worker) -> None:
    anna, other = Person(app, "anna"), Person(app, "anna", ("read",))
    mine = belongings(anna, worker)
    other.client.get("/v1/jobs")
    assert log(database, mine.job_id)[-1] == (other.key_id, "anna", "read")


def test_results_are_a_read_of_the_batch(app: Flask, database: Database) -> None:
    anna = Person(app, "anna")
    batch_id = accepted(anna.client, zipped(pictures(1)))["id"]
    anna.client.get(f"/v1/batches/{batch_id}/results.csv", buffered=True)
    assert [action for _, _, action in log(database, batch_id)] == ["submit", "read"]


def test_what_was_not_shown_was_not_read(app: Flask, database: Database) -> None:
    anna, ben = Person(app, "anna"), Person(app, "ben")
    job_id = submitted(anna.client)["id"]
    before = log(database, job_id)
    assert_problem(ben.client.get(f"/v1/jobs/{job_id}"), 404, "not-found")
    assert log(database, job_id) == before


def test_what_cannot_be_written_down_is_not_shown(app: Flask, database: Database) -> None:
    anna = Person(app, "anna")
    job_id = submitted(anna.client)["id"]
    assert anna.client.get(f"/v1/jobs/{job_id}").status_code == 200
    other = Person(app, "anna")
    database.write(lambda session: session.execute(text("ALTER TABLE audit RENAME TO away")))
    response = other.client.get(f"/v1/jobs/{job_id}")
    assert_problem(response, 503, "service-unavailable")
    assert "What is this" not in response.text


def test_open_mode_notes_erasures_only(start: Callable[..., Flask], database: Database) -> None:
    client = start().test_client()
    job_id = submitted(client)["id"]
    client.get(f"/v1/jobs/{job_id}")
    client.delete(f"/v1/jobs/{job_id}")
    assert log(database, job_id) == [("", "", "erase")]


def test_the_command_line_verifies_and_lists(database: Database, database_url: str) -> None:
    from typer.testing import CliRunner

    from api import cli

    def medq(*words: str) -> Any:
        return CliRunner().invoke(cli.app, ["audit", *words], env={"MEDQ_DATABASE_URL": database_url})

    actor = audit.Actor("key-1", "anna")
    database.write(lambda session: audit.add(session, actor, "submit", ["job-1"]))
    audit.seal(database)
    assert "job-1" in medq("list").stdout
    assert "1 blocks, 1 rows, 0 not yet sealed" in medq("verify").stdout
    database.write(lambda session: session.execute(text("UPDATE audit SET actor = 'x'")))
    broken = medq("verify")
    assert (broken.exit_code, "Block 1" in broken.stderr) == (1, True)
