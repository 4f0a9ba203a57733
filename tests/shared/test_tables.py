"""The rows keep what is put into them, to the byte and the microsecond, on both databases."""

from typing import Any

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import IntegrityError

from shared.database import Database
from shared.tables import AttemptRow, JobRow, Row

HARD_TEXTS = [
    "",
    " leading and trailing ",
    "line\nbreak\r\n\ttab",
    "흑색종 😀 Mélanome",
    "e\u0301 is not \u00e9",
    "'; DROP TABLE jobs; -- %s %(x)s :name \\",
    "\u202eright to left",
    "x" * 4000,
    "😀" * 4000,
]


def only_row(database: Database) -> JobRow:
    return database.read(lambda session: session.scalars(select(JobRow)).one())


@pytest.mark.parametrize("question", HARD_TEXTS, ids=range(len(HARD_TEXTS)))
def test_a_question_comes_back_as_it_was_asked(database: Database, job_factory, question: str) -> None:
    job_factory(question=question)
    assert only_row(database).question == question


def test_metadata_comes_back_as_it_was_given(database: Database, job_factory) -> None:
    given: dict[str, Any] = {"흑": ["a", 1, 1.5, None, True, {"b": []}], "": "😀", "big": 2**60}
    job_factory(client_metadata=given)
    assert only_row(database).client_metadata == given


def test_a_result_that_is_unknown_is_null_and_an_empty_one_is_not(database: Database, job_factory) -> None:
    job = job_factory()
    database.write(lambda s: s.execute(update(JobRow).where(JobRow.id == job.id).values(findings=[])))

    def nulls(session: Any) -> Any:
        return session.execute(select(JobRow.findings.is_(None), JobRow.grades.is_(None))).one()

    assert tuple(database.read(nulls)) == (0, 1)
    database.write(lambda s: s.execute(update(JobRow).where(JobRow.id == job.id).values(findings=None)))
    assert tuple(database.read(nulls)) == (1, 1)


def test_ids_that_differ_by_case_are_two_jobs(database: Database, job_factory) -> None:
    job_factory(id="Key-A")
    job_factory(id="key-a")
    assert database.read(lambda s: s.scalar(select(func.count()).where(JobRow.id == "key-a"))) == 1


@pytest.mark.parametrize("wanted", ["é", "😀", "x' OR '1'='1", "%", "x" * 5000, ""])
def test_an_id_that_no_job_can_have_finds_nothing(database: Database, job_factory, wanted: str) -> None:
    job_factory()
    assert database.read(lambda session: session.get(JobRow, wanted)) is None


def test_an_attempt_needs_its_job(database: Database) -> None:
    orphan = AttemptRow(job_id="nobody", number=1, stage="vision", claim_id="c", worker="w", started_at=1)
    with pytest.raises(IntegrityError):
        database.write(lambda session: (session.add(orphan), session.flush()))


def test_times_keep_their_microseconds(database: Database, job_factory) -> None:
    job_factory()
    moment = 1_795_143_845_123_457
    database.write(lambda session: session.execute(update(JobRow).values(completed_at=moment)))
    assert only_row(database).completed_at == moment


def test_every_time_is_an_integer_of_eight_bytes() -> None:
    times = [
        column
        for table in Row.metadata.sorted_tables
        for column in table.columns
        if column.name.endswith(("_at", "_until", "_before"))
    ]
    assert len(times) > 10
    assert {str(column.type) for column in times} == {"BIGINT"}


@pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)
def test_a_text_that_is_too_long_is_refused_and_not_cut(database: Database, job_factory) -> None:
    with database.engine.connect() as connection:
        assert "STRICT_TRANS_TABLES" in connection.scalar(text("SELECT @@sql_mode"))
