"""Holds the rows against the migrations, on both databases."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from migrations import downgrade, upgrade
from shared.database import Database, connect
from shared.settings import ROOT
from shared.tables import Row
from tests.servers import MariaDB

STEPS = sorted((ROOT / "migrations" / "versions").glob("[0-9]*.py"))


@pytest.fixture(params=["sqlite", "mariadb"])
def bare_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database in which nothing was ever made."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new folder' / 'medq.sqlite3'}"
    server: MariaDB = request.getfixturevalue("mariadb_server")
    server.restore()
    return server.create("medq_bare")


def shape(connection: Connection) -> dict[tuple[str, str], tuple[str, bool, str | None]]:
    """(table, column) to type, nullable and collation, as the database itself tells it."""
    look = inspect(connection)
    columns = {
        (table, column["name"]): (
            str(column["type"]),
            bool(column["nullable"]),
            getattr(column["type"], "collation", None),
        )
        for table in look.get_table_names()
        for column in look.get_columns(table)
        if table != "alembic_version"
    }
    for table in look.get_table_names():
        for index in look.get_indexes(table):
            columns[table, f"index {index['name']}"] = (
                str(index["column_names"]),
                bool(index["unique"]),
                None,
            )
        for key in look.get_foreign_keys(table):
            columns[table, f"key {key['name']}"] = (
                str(key["constrained_columns"]),
                True,
                key["referred_table"],
            )
    return columns


def test_the_migrations_make_the_rows(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Row.metadata) == []


def test_the_migrations_make_what_create_all_makes(bare_url: str) -> None:
    upgrade(bare_url)
    database = connect(bare_url)
    with database.engine.connect() as connection:
        migrated = shape(connection)
    downgrade(bare_url, "base")
    with database.engine.connect() as connection:
        Row.metadata.create_all(connection)
        connection.commit()
        assert shape(connection) == migrated
    database.close()


@pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)
def test_every_text_column_of_mariadb_compares_bytes(database: Database) -> None:
    with database.engine.connect() as connection:
        columns = connection.execute(
            text(
                "SELECT table_name, column_name, collation_name FROM information_schema.columns "
                "WHERE table_schema = DATABASE() AND collation_name IS NOT NULL AND table_name <> 'alembic_version'"
            )
        ).all()
    assert len(columns) > 30
    assert {row for row in columns if row[2] not in ("ascii_bin", "utf8mb4_bin")} == set()
    ascii_columns = {f"{table}.{column}" for table, column, collation in columns if collation == "ascii_bin"}
    assert {"jobs.id", "jobs.claim_id", "jobs.status", "idempotency.key_sha256"} <= ascii_columns
    assert "jobs.question" not in ascii_columns


def test_an_upgrade_says_what_it_did_and_does_it_once(bare_url: str) -> None:
    assert upgrade(bare_url) == [
        "0001 jobs, attempts, artifacts, idempotency keys",
        "0002 batches, rejected entries, uploads in pieces",
        "0003 owners of jobs, keys, sessions",
        "0004 webhooks, deliveries and their tries",
        "0005 the audit log, and what retention looks by",
        "0006 reviews of jobs",
        "0007 explanations, and frames of multi-frame pictures",
        "0008 pauses of pipelines and lanes",
        "0009 texts that an operator adds",
        "0010 messages about jobs",
        "0011 what language models cost",
        "0012 jobs by the client's own id",
        "0013 an owner's reviews",
    ]
    assert upgrade(bare_url) == []


def test_a_downgrade_leaves_nothing_behind_and_can_be_upgraded_again(bare_url: str) -> None:
    upgrade(bare_url)
    downgrade(bare_url, "base")
    database = connect(bare_url)
    with database.engine.connect() as connection:
        assert set(inspect(connection).get_table_names()) <= {"alembic_version"}
    database.close()
    assert upgrade(bare_url)


def test_six_processes_that_start_at_once_migrate_once(bare_url: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(upgrade, [bare_url] * 6))
    assert sorted(map(len, done)) == [0, 0, 0, 0, 0, len(STEPS)]


def test_the_command_upgrades_what_the_settings_name(tmp_path: Path) -> None:
    run = [sys.executable, "-m", "migrations"]
    environ = {"MEDQ_DATA_DIR": str(tmp_path / "var"), "PATH": "/usr/bin"}
    first = subprocess.run(run, cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
    second = subprocess.run(run, cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
    assert "0001" in first.stdout
    assert "already up to date" in second.stdout
    assert (tmp_path / "var" / "medq.sqlite3").is_file()
