"""Every migration only adds, so that processes of the version before work on, beside it and after it."""

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

from migrations.run import FOLDER

STEPS = [step.module for step in ScriptDirectory(str(FOLDER)).walk_revisions()]


class Recorder:
    """Stands for alembic's `op`."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **named: self.calls.append((name, arguments, named))


def refused(upgrade: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What in a migration an older process would stumble over."""
    recorder = Recorder()
    monkeypatch.setitem(upgrade.__globals__, "op", recorder)
    upgrade()
    tables = {arguments[0] for name, arguments, _ in recorder.calls if name == "create_table"}
    columns = {(a[0], a[1].name) for name, a, _ in recorder.calls if name == "add_column"}
    found = []
    for name, arguments, named in recorder.calls:
        if name == "add_column":
            column: sa.Column[Any] = arguments[1]
            if not column.nullable and column.server_default is None:
                found.append(f"{arguments[0]}.{column.name}: older processes insert without it")
        elif name == "create_index":
            index, table, names = arguments
            old = [one for one in names if (table, one) not in columns]
            # Where one of its columns is new and empty in what older processes insert, no two rows are alike.
            if named.get("unique") and table not in tables and len(old) == len(names):
                found.append(f"{index}: older processes insert what it refuses")
        elif name not in ("create_table", "drop_index"):
            found.append(f"{name}{arguments[:2]}: what older processes use is changed or goes")
    return found


@pytest.mark.parametrize("step", STEPS, ids=lambda step: str(step.revision))
def test_a_migration_only_adds(step: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(step.upgrade, monkeypatch) == []


@pytest.mark.parametrize(
    "act",
    [
        lambda: op.drop_column("jobs", "question"),
        lambda: op.drop_table("jobs"),
        lambda: op.alter_column("jobs", "lane", nullable=False),
        lambda: op.rename_table("jobs", "tasks"),
        lambda: op.execute("DELETE FROM jobs"),
        lambda: op.add_column("jobs", sa.Column("owner", sa.Integer(), nullable=False)),
        lambda: op.create_index("uq_jobs_sha256", "jobs", ["sha256"], unique=True),
    ],
)
def test_what_does_more_is_found(act: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(refused(act, monkeypatch)) == 1


op: Any = None  # whose place the recorder takes
