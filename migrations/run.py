"""Runs Alembic from code; there is no alembic.ini, and two processes that start at once do no harm."""

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, make_url, text

from shared.database import connect

FOLDER = Path(__file__).parent
LOCK_S = 120  # longest wait for another process that migrates the same database


def upgrade(url: str, revision: str = "head") -> list[str]:
    """Bring a database up to date; answers with the revisions that it applied, oldest first.

    Raises: TimeoutError if another process migrates it for more than two minutes
    """
    with _locked(url) as connection:
        config = _config(connection)
        before = _current(connection)
        command.upgrade(config, revision)
        after = _current(connection)
        steps = ScriptDirectory.from_config(config).iterate_revisions(after or "base", before or "base")
        return [f"{step.revision} {step.doc}" for step in reversed(list(steps))]


def downgrade(url: str, revision: str) -> None:
    """Take a database back to an older shape, `base` being the empty one. What only the newer has is lost."""
    with _locked(url) as connection:
        command.downgrade(_config(connection), revision)


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _current(connection: Connection) -> str | None:
    revision = MigrationContext.configure(connection).get_current_revision()
    connection.rollback()  # the look opened a transaction, and the migration wants its own
    return revision


@contextmanager
def _locked(url: str) -> Iterator[Connection]:
    """A connection that is alone with its database; the lock goes when its process does."""
    parsed = make_url(url)
    if parsed.drivername == "sqlite":
        with _locked_file(Path(parsed.database or "")), _connected(url) as connection:
            yield connection
    else:
        with _connected(url) as connection, _locked_name(connection, parsed.database or ""):
            yield connection


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    database = connect(url, pool_size=1, statement_s=None)  # to rebuild a large table takes its time
    try:
        with database.engine.connect() as connection:
            yield connection
    finally:
        database.close()


@contextmanager
def _locked_file(path: Path) -> Iterator[None]:
    """SQLite's own lock would do for the tables, but not for the switch to WAL on a new file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".migration").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _locked_name(connection: Connection, database: str) -> Iterator[None]:
    # The name counts for the whole server, and MySQL holds it to 64 characters.
    name = "medq-" + hashlib.sha256(database.encode()).hexdigest()[:32]
    got = connection.scalar(text("SELECT GET_LOCK(:name, :wait_s)"), {"name": name, "wait_s": LOCK_S})
    connection.rollback()
    if got != 1:
        raise TimeoutError(f"another process has been migrating {database} for {LOCK_S} s")
    try:
        yield
    finally:
        connection.rollback()
        connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": name})
        connection.rollback()
