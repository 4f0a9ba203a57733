"""The audit log: what a change to it breaks, reads once an hour, and several writers at once."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update

from shared import audit
from shared.audit import HOUR_US, NOTHING, Actor, Reads
from shared.database import Database
from shared.tables import AuditBlockRow, AuditRow

ANNA = Actor("key-1", "anna")
BEN = Actor("key-2", "ben")


def added(database: Database, number: int, actor: Actor = ANNA) -> None:
    subjects = [f"job-{i}" for i in range(number)]
    database.write(lambda session: audit.add(session, actor, "submit", subjects))


@pytest.fixture
def sealed(database: Database) -> Database:
    """Three blocks of four rows."""
    for _ in range(3):
        added(database, 4)
        assert audit.seal(database) == 4
    return database


def ids(database: Database) -> list[str]:
    return list(database.read(lambda s: s.scalars(select(AuditRow.id).order_by(AuditRow.id)).all()))


def test_what_is_sealed_is_verified(sealed: Database) -> None:
    added(sealed, 2)
    found = audit.verify(sealed)
    assert (found.blocks, found.rows, found.unsealed, found.broken) == (3, 12, 2, None)
    assert len(found.head) == 64


def test_an_empty_log_is_in_order(database: Database) -> None:
    assert audit.seal(database) == 0
    assert audit.verify(database) == audit.Verdict(0, 0, 0, NOTHING, None)


@pytest.mark.parametrize("column", ["at", "actor", "owner", "action", "subject"])
def test_a_changed_row_breaks_its_block(sealed: Database, column: str) -> None:
    value: Any = 1 if column == "at" else "x"
    target = AuditRow.id == ids(sealed)[5]
    sealed.write(lambda s: s.execute(update(AuditRow).where(target).values({column: value})))
    assert audit.verify(sealed).broken == 2


def test_a_removed_row_breaks_its_block(sealed: Database) -> None:
    sealed.write(lambda s: s.execute(delete(AuditRow).where(AuditRow.id == ids(sealed)[9])))
    assert audit.verify(sealed).broken == 3


def test_a_row_that_is_slipped_in_breaks_its_block(sealed: Database) -> None:
    row = {"id": "0" * 36, "at": 1, "actor": "", "owner": "", "action": "read", "subject": "x", "block": 1}
    sealed.write(lambda s: s.execute(insert(AuditRow).values(**row)))
    assert audit.verify(sealed).broken == 1


def test_a_row_of_a_block_that_nobody_sealed_is_noticed(sealed: Database) -> None:
    row = {"id": "0" * 36, "at": 1, "actor": "", "owner": "", "action": "read", "subject": "x", "block": 9}
    sealed.write(lambda s: s.execute(insert(AuditRow).values(**row)))
    assert audit.verify(sealed).broken == 3


def test_a_removed_block_is_noticed(sealed: Database) -> None:
    sealed.write(lambda s: s.execute(delete(AuditBlockRow).where(AuditBlockRow.number == 2)))
    assert audit.verify(sealed).broken == 2


def test_a_block_that_was_sealed_anew_does_not_fit_the_next(sealed: Database) -> None:
    """Whoever changes a row and makes its block's hash again must make all later ones again too."""
    sealed.write(lambda s: s.execute(update(AuditRow).where(AuditRow.id == ids(sealed)[0]).values(actor="x")))
    rows = sealed.read(
        lambda s: s.execute(
            select(audit.AUDIT).where(audit.AUDIT.c.block == 1).order_by(audit.AUDIT.c.id)
        ).all()
    )
    forged = audit._digest(NOTHING, rows)
    first = AuditBlockRow.number == 1
    sealed.write(lambda s: s.execute(update(AuditBlockRow).where(first).values(sha256=forged)))
    found = audit.verify(sealed)
    assert (found.broken, found.reason) == (2, "it does not follow the block before it")


def test_a_read_is_noted_once_per_actor_subject_and_hour(database: Database) -> None:
    processes = Reads(database), Reads(database)
    for reads in processes:
        for actor in (ANNA, BEN):
            for clock_us in (5, 6, HOUR_US + 5):
                reads.note(actor, ["job-1", "job-2"], clock_us)
    rows = audit.entries(database, None, 100)
    assert len(rows) == 8  # two actors, two jobs, two hours
    assert {(row.actor, row.owner, row.action) for row in rows} == {
        ("key-1", "anna", "read"), ("key-2", "ben", "read"),
    }  # fmt: skip
    assert len(audit.entries(database, "job-1", 100)) == 4


def test_what_a_process_noted_it_does_not_ask_the_database_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = Reads(database)
    reads.note(ANNA, ["job-1"], 5)
    monkeypatch.setattr(database, "write", lambda work: pytest.fail("asked again"))
    reads.note(ANNA, ["job-1"], 6)


def test_writers_and_two_sweepers_at_once_seal_every_row_once(database: Database) -> None:
    with ThreadPoolExecutor(6) as pool:
        writing = [pool.submit(added, database, 5) for _ in range(8)]
        sealing = [pool.submit(audit.seal, database) for _ in range(6)]
        for one in writing + sealing:
            one.result()
    while audit.seal(database):
        pass
    found = audit.verify(database)
    assert (found.rows, found.unsealed, found.broken) == (40, 0, None)
