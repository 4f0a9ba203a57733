"""Workers of the version before the newest migration, from this repository's own history; and a migration to come."""

import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

from shared.database import connect
from shared.settings import ROOT, Settings, environment_with

VERSIONS = "migrations/versions"
NEEDED = ("shared", "workers", "migrations")  # of a worker's tree; the room has weights of its own
WAIT_S = 300.0


def previous_commit() -> str:
    """The last one without the newest migration; empty where there is no history that reaches so far."""
    newest = max(path.name for path in (ROOT / VERSIONS).glob("[0-9]*.py"))
    for commit in _git("rev-list", "--first-parent", "HEAD").split():
        if newest not in _git("ls-tree", "--name-only", commit, f"{VERSIONS}/"):
            return commit
    return ""


def unpack(commit: str, folder: Path) -> Path:
    """The tree of a commit, without weights. Raises: subprocess.CalledProcessError"""
    packed = subprocess.run(
        ["git", "archive", "--format=tar", commit, *NEEDED, ":!workers/models"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as tree:
        tree.extractall(folder, filter="data")
    return folder


def _git(*arguments: str) -> str:
    """Its words; none where there is no git, or no repository."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout if done.returncode == 0 else ""


@contextmanager
def workers_of(tree: Path, settings: Settings, *roles: str) -> Iterator[dict[str, int]]:
    """A process of each role from that tree, by its id; told to stop at the end, and waited for."""
    with (settings.data_path / "logs/previous.log").open("ab") as log:
        started = {
            role: subprocess.Popen(
                [sys.executable, "-m", "workers.app", role],
                cwd=tree,
                env=environment_with(settings.as_environment()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            for role in roles
        }
    try:
        yield {role: process.pid for role, process in started.items()}
    finally:
        for process in started.values():
            process.terminate()
        for process in started.values():
            process.wait(WAIT_S)


@contextmanager
def migrated_to_come(url: str) -> Iterator[None]:
    """Everything that a migration may do by the rule: a column, an index and a table more; undone at the end."""
    db = connect(url, pool_size=1, statement_s=None)  # as migrations/run.py does
    with db.engine.begin() as connection:
        step = Operations(MigrationContext.configure(connection))
        step.add_column("jobs", sa.Column("to_come", sa.Integer(), nullable=True))
        step.add_column("attempts", sa.Column("to_come", sa.Integer(), nullable=False, server_default="0"))
        step.create_index("ix_jobs_to_come", "jobs", ["owner", "to_come"])
        step.create_table("to_come", sa.Column("id", sa.Integer(), primary_key=True))
    try:
        yield
    finally:
        with db.engine.begin() as connection:
            step = Operations(MigrationContext.configure(connection))
            step.drop_table("to_come")
            step.drop_index("ix_jobs_to_come", "jobs")
            step.drop_column("attempts", "to_come")
            step.drop_column("jobs", "to_come")
        db.close()
