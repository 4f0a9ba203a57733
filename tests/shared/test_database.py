"""The two databases behave alike: one clock, writes that wait their turn, deadlocks that are run again."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import event, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from shared.database import DEADLOCK_TRIES, Database, connect, now_us
from shared.tables import JobRow
from tests.servers import MariaDB

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
on_mariadb = pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)


def question(database: Database, job_id: str) -> str | None:
    return database.read(lambda session: session.scalar(select(JobRow.question).where(JobRow.id == job_id)))


def test_now_is_microseconds_of_utc(database: Database) -> None:
    before = time.time_ns() // 1000
    now = database.read(lambda session: session.scalar(select(now_us())))
    assert isinstance(now, int)
    assert before - 1000 <= now <= time.time_ns() // 1000 + 1000


@on_mariadb
def test_now_does_not_depend_on_the_sessions_time_zone(database: Database) -> None:
    with database.engine.connect() as connection:
        connection.execute(text("SET time_zone = '-11:00'"))
        now = connection.scalar(select(now_us()))
        connection.execute(text("SET time_zone = DEFAULT"))
    assert now is not None
    assert abs(now / 1e6 - time.time()) < 5


def test_a_failed_write_leaves_nothing(database: Database, job_factory) -> None:
    job = job_factory(question="before")

    def work(session: Session) -> None:
        session.execute(update(JobRow).values(question="after"))
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        database.write(work)
    assert question(database, job.id) == "before"


@on_sqlite
def test_what_a_write_reads_on_sqlite_holds_until_it_commits(database: Database, job_factory) -> None:
    job = job_factory(size_bytes=0)

    def count_on(session: Session) -> None:
        seen = session.scalar(select(JobRow.size_bytes).where(JobRow.id == job.id))
        session.execute(update(JobRow).values(size_bytes=(seen or 0) + 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: database.write(count_on), range(80)))
    assert database.read(lambda session: session.scalar(select(JobRow.size_bytes))) == 80


def test_reads_do_not_wait_for_a_write(database: Database, job_factory) -> None:
    job = job_factory(question="before")
    written, finish = threading.Event(), threading.Event()

    def work(session: Session) -> None:
        session.execute(update(JobRow).values(question="after"))
        written.set()
        finish.wait(60)

    writer = threading.Thread(target=database.write, args=(work,))
    writer.start()
    written.wait(60)
    seen = question(database, job.id)
    held = writer.is_alive() and not finish.is_set()
    finish.set()
    writer.join()
    assert (seen, held) == ("before", True)  # it was read while the write went on
    assert question(database, job.id) == "after"


@on_mariadb
def test_a_deadlock_is_run_again_until_both_have_written(database: Database, job_factory) -> None:
    jobs = [job_factory(size_bytes=0), job_factory(size_bytes=0)]
    both_hold_one = threading.Barrier(2)
    victims = []

    @event.listens_for(database.engine, "handle_error")
    def note(context) -> None:
        victims.append(context.original_exception.args[0])

    def crossing(ids: list[str]) -> None:
        first_time = iter([True])

        def work(session: Session) -> None:
            for job_id in ids:
                session.execute(
                    update(JobRow).where(JobRow.id == job_id).values(size_bytes=JobRow.size_bytes + 1)
                )
                if next(first_time, False):
                    both_hold_one.wait(60)

        database.write(work)

    there = [job.id for job in jobs]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(crossing, [there, there[::-1]]))
    assert victims == [1213]
    sizes = database.read(lambda session: session.scalars(select(JobRow.size_bytes)).all())
    assert list(sizes) == [2, 2]


@on_mariadb
def test_a_deadlock_that_never_ends_is_told(database: Database) -> None:
    runs = []

    def work(session: Session) -> None:
        runs.append(1)
        session.execute(text("SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'Deadlock'"))

    with pytest.raises(OperationalError, match="Deadlock"):
        database.write(work)
    assert len(runs) == DEADLOCK_TRIES


@on_mariadb
def test_an_error_that_is_no_deadlock_is_not_run_again(database: Database) -> None:
    runs = []

    def work(session: Session) -> None:
        runs.append(1)
        session.execute(text("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1030, MESSAGE_TEXT = 'Broken disk'"))

    with pytest.raises(OperationalError, match="Broken disk"):
        database.write(work)
    assert runs == [1]


@on_mariadb
def test_connections_that_a_restart_broke_are_replaced(
    database: Database, mariadb_server: MariaDB, job_factory
) -> None:
    job = job_factory(question="kept")
    mariadb_server.restart()
    assert question(database, job.id) == "kept"


@on_mariadb
def test_transactions_read_what_is_committed(database: Database) -> None:
    with database.engine.connect() as connection:
        assert connection.get_isolation_level() == "READ COMMITTED"


@on_sqlite
def test_sqlite_writes_ahead_and_holds_foreign_keys(database: Database) -> None:
    with database.engine.connect() as connection:
        assert connection.scalar(text("PRAGMA journal_mode")) == "wal"
        assert connection.scalar(text("PRAGMA foreign_keys")) == 1


@pytest.mark.parametrize("url", ["postgresql://host/medq", "mysql://host/medq", "sqlite+aiosqlite:///x"])
def test_another_database_is_refused_by_name(url: str) -> None:
    with pytest.raises(ValueError, match=url.split(":")[0].replace("+", r"\+") + " is not supported"):
        connect(url)


def test_a_folder_that_is_missing_is_an_error_and_not_a_new_database(tmp_path: Path) -> None:
    database = connect(f"sqlite:///{tmp_path}/missing/medq.sqlite3")
    with pytest.raises(OperationalError, match="unable to open"):
        database.read(lambda session: session.execute(text("SELECT 1")))
    database.close()
