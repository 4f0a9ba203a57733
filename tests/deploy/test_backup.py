"""The runbook's commands that back up and bring back, run as they stand on MariaDB and a folder of blobs."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from migrations import upgrade
from shared import audit, jobs
from shared.audit import Actor
from shared.database import Database, connect
from shared.ids import new_id
from shared.job_types import NewJob
from shared.settings import ROOT
from shared.storage import open_storage
from shared.tables import AuditBlockRow, JobRow, Row
from tests.servers import MariaDB, needs

RUNBOOK = (ROOT / "deploy/RUNBOOK.md").read_text(encoding="utf-8")
QUESTION = "Is it dangerous? 위험한가요? \U0001f642 '; DROP TABLE jobs; --"


def commands(name: str) -> str:
    """The first block of shell in a section."""
    found = re.search(rf"^## {name}\n.*?```sh\n(.*?)```", RUNBOOK, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


@pytest.fixture
def house(mariadb_server: MariaDB, tmp_path: Path) -> Iterator[tuple[Database, Path]]:
    """A database called medq with a job, an audit log and a blob, and the folder to work in."""
    needs("mysqldump", "mariadb-client")
    url = mariadb_server.create("medq")
    upgrade(url)
    (tmp_path / ".my.cnf").write_text(
        f"[client]\nhost=127.0.0.1\nport={mariadb_server.port}\n"
        f"user={MariaDB.USER}\npassword={MariaDB.PASSWORD}\nskip-ssl\n"
    )
    db = connect(url)
    yield db, tmp_path
    db.close()


def fill(db: Database, blobs: Path) -> None:
    job_id = new_id()
    open_storage(str(blobs)).put(f"{job_id}/image", bytes(range(256)) * 40)
    new = NewJob(id=job_id, pipeline="skin", question=QUESTION, lang="ko", stage="vision", answered=True)
    assert jobs.create(db, new, 30, by=Actor("key", "lab"))
    values = {"findings": [{"label": "mel", "probability": 0.1 + 0.2}]}
    db.write(lambda session: session.execute(update(JobRow).values(values)))
    audit.seal(db)


def kept(db: Database, blobs: Path) -> Any:
    rows = {
        table.name: db.read(lambda session, table=table: sorted(map(tuple, session.execute(select(table)))))  # type: ignore[misc]
        for table in (JobRow.__table__, AuditBlockRow.__table__)
    }
    return rows, {path.relative_to(blobs): path.read_bytes() for path in blobs.rglob("*") if path.is_file()}


def run(script: str, folder: Path, blobs: Path) -> None:
    environment = os.environ | {"HOME": str(folder), "BLOBS": str(blobs)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_what_was_backed_up_comes_back(house: tuple[Database, Path]) -> None:
    db, folder = house
    blobs = folder / "blobs"
    fill(db, blobs)
    before = kept(db, blobs)
    assert before[0]["jobs"]
    assert before[1]
    run(commands("Back up"), folder, blobs)
    with db.engine.begin() as connection:
        Row.metadata.drop_all(connection)
    shutil.rmtree(blobs)
    run(commands("Bring back"), folder, blobs)
    assert kept(db, blobs) == before
    verdict = audit.verify(db)
    assert (verdict.rows, verdict.broken) == (1, None)
    assert upgrade(db.engine.url.render_as_string(hide_password=False)) == []
