"""Connects to SQLite or MySQL so that both behave alike: immediate writes, short locks, one clock."""

import random
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeVar

from sqlalchemy import BigInteger, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.sql.functions import FunctionElement

T = TypeVar("T")

SECOND = 1_000_000  # in now_us()
DEADLOCKS = (1213, 1205)  # MySQL: deadlock found, lock wait time-out
DEADLOCK_TRIES = 8


class now_us(FunctionElement[int]):  # noqa: N801, it is written like SQL's own functions
    """Microseconds since 1970 UTC by the database's clock, the only clock that all processes share."""

    type = BigInteger()
    inherit_cache = True


@compiles(now_us, "sqlite")
def _sqlite_now(element: Any, compiler: Any, **options: Any) -> str:
    return "medq_now_us()"


@compiles(now_us, "mysql")
@compiles(now_us, "mariadb")
def _mysql_now(element: Any, compiler: Any, **options: Any) -> str:
    # Not UNIX_TIMESTAMP(NOW(6)): where the session's zone has summer time, one hour a year comes twice.
    return "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"


class Database:
    """An engine and the one way to run a transaction on it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        # SQLite has one writer. A thread that finds it busy sleeps up to 100 ms before it looks again, so the
        # threads of a process queue here, and only processes meet at the file.
        self._writer = threading.Lock() if engine.dialect.name == "sqlite" else nullcontext()
        self._session = sessionmaker(engine, expire_on_commit=False, autoflush=False)

    def read(self, work: Callable[[Session], T]) -> T:
        """Run `work` without locks; on SQLite each statement sees the newest commit."""
        with self._session() as session:
            return work(session)

    def write(self, work: Callable[[Session], T]) -> T:
        """Run `work` in one transaction and commit it; run it again when MySQL chose it as deadlock victim.

        So `work` must be safe to run twice: no effect but through its session. On SQLite the write lock is
        taken first, so that what `work` reads holds until it commits.
        """
        for attempt in range(DEADLOCK_TRIES):
            try:
                with self._writer, self._session.begin() as session:
                    if self.engine.dialect.name == "sqlite":
                        session.execute(text("BEGIN IMMEDIATE"))
                    return work(session)
            except OperationalError as error:
                if not is_deadlock(error) or attempt == DEADLOCK_TRIES - 1:
                    raise
                time.sleep(random.uniform(0, 0.01 * 2**attempt))
        raise AssertionError("the loop returns or raises")

    def close(self) -> None:
        self.engine.dispose()


def is_deadlock(error: OperationalError) -> bool:
    return bool(error.orig and error.orig.args and error.orig.args[0] in DEADLOCKS)


def connect(url: str, *, pool_size: int = 16, statement_s: int | None = 30) -> Database:
    """Open the database that a SQLAlchemy URL names; on MySQL no statement may take longer than `statement_s`.

    Raises: ValueError if it is neither SQLite nor MySQL/MariaDB through PyMySQL
    """
    name = make_url(url).drivername
    if name == "sqlite":
        return Database(_sqlite(url, pool_size))
    if name in ("mysql+pymysql", "mariadb+pymysql"):
        return Database(_mysql(url, pool_size, statement_s))
    raise ValueError(f"{name} is not supported; use sqlite:/// or mysql+pymysql://")


def _sqlite(url: str, pool_size: int) -> Engine:
    # IMMEDIATE: a deferred transaction that reads first fails at its first write, whatever the time-out.
    engine = create_engine(
        url,
        connect_args={"isolation_level": "IMMEDIATE", "timeout": 15, "check_same_thread": False},
        hide_parameters=True,  # an error's text must not carry what people asked
        pool_size=pool_size,
        max_overflow=pool_size,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        connection.create_function("medq_now_us", 0, lambda: time.time_ns() // 1000)
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    return engine


def _mysql(url: str, pool_size: int, statement_s: int | None) -> Engine:
    return create_engine(
        make_url(url).update_query_dict({"charset": "utf8mb4"}),
        isolation_level="READ COMMITTED",
        hide_parameters=True,  # an error's text must not carry what people asked
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        pool_recycle=1800,
        connect_args={"connect_timeout": 5, "read_timeout": statement_s, "write_timeout": statement_s},
    )
