"""Fixtures for every room: real servers, empty databases of both kinds, settings and jobs."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

import shared.queue
import shared.s3_storage
from migrations import upgrade
from shared import jobs
from shared.database import Database, connect
from shared.ids import new_id
from shared.job_types import NewJob
from shared.settings import Settings
from shared.tables import Row
from tests import s3
from tests.rabbit import Rabbit
from tests.servers import MariaDB, Redis
from tests.sockets import Cost, counted

DATABASES = ("sqlite", "mariadb")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long",
        action="store_true",
        help="tests/faults: 200 jobs a fault and 20 kills each; tests/api/test_sweep.py: everything into every place",
    )


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    server = Redis()
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture(scope="session")
def rabbit_server() -> Iterator[Rabbit]:
    server = Rabbit()
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def broker(redis_server: Redis) -> Redis:
    """The session's Redis, empty, and running whatever the last test did to it."""
    redis_server.restore()
    redis_server.flush()
    return redis_server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a server that speaks S3."""
    with s3.serving() as address:
        yield address


@pytest.fixture(scope="session")
def s3_client(s3_server: str) -> Iterator[Any]:
    """It takes a second to make, so the tests share it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (s3.VARIABLES | {"AWS_ENDPOINT_URL_S3": s3_server}).items():
            patch.setenv(name, value)
        client = shared.s3_storage.connect()
    yield client
    client.close()


@pytest.fixture
def bucket(s3_server: str, s3_client: Any, monkeypatch: pytest.MonkeyPatch) -> s3.Bucket:
    """An empty bucket; whoever opens an `s3://` in this test finds its server."""
    for name, value in (s3.VARIABLES | {"AWS_ENDPOINT_URL_S3": s3_server}).items():
        monkeypatch.setenv(name, value)
    return s3.Bucket(s3_client)


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariaDB]:
    server = MariaDB()
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty file; a test gets its own copy, which is faster than a migration."""
    path = tmp_path_factory.mktemp("template") / "medq.sqlite3"
    upgrade(f"sqlite:///{path}")
    database = connect(f"sqlite:///{path}")
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return path


@pytest.fixture(scope="session")
def mariadb_schema(mariadb_server: MariaDB) -> str:
    url = mariadb_server.create("medq_test")
    upgrade(url)
    return url


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A migrated, empty database; the test runs once on each kind.

    `@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)` keeps a test to one kind.
    """
    if request.param == "sqlite":
        path = tmp_path / "medq.sqlite3"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        return f"sqlite:///{path}"
    request.getfixturevalue("mariadb_server").restore()
    url: str = request.getfixturevalue("mariadb_schema")
    empty(url)
    return url


def empty(url: str) -> None:
    """Drop every row, in an order that foreign keys allow."""
    database = connect(url)
    with database.engine.begin() as connection:
        for table in reversed(Row.metadata.sorted_tables):
            connection.execute(delete(table))
    database.close()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = connect(database_url, pool_size=20)
    yield opened
    opened.close()


@pytest.fixture
def cost(monkeypatch: pytest.MonkeyPatch) -> Cost:
    """What is tried on sockets that are made from now on, and a broker's breaker that stays open once it is."""
    monkeypatch.setattr(shared.queue, "BREAKER_S", 3600.0)
    return counted(monkeypatch)


@pytest.fixture
def settings(database_url: str, broker: Redis, tmp_path: Path) -> Callable[..., Settings]:
    """`settings(lease_s=2)`: the test's own folder, database and broker, with what the test changes."""
    base = Settings(
        data_dir=str(tmp_path / "var"),
        database_url=database_url,
        broker_url=broker.url,
        log_format="console",
    )
    base.data_path.mkdir()
    return lambda **overrides: replace(base, **overrides)


@pytest.fixture
def job_factory(database: Database) -> Callable[..., NewJob]:
    """`job_factory(question="…")` stores a queued job and answers with what it was made of, id included.

    `redispatch_s` is how long the sweeper leaves it alone.
    """

    def make(*, redispatch_s: float = 30.0, **overrides: Any) -> NewJob:
        plain = NewJob(
            id=new_id(),
            pipeline="skin",
            question="What is this?",
            lang="en",
            stage="vision",
            answered=True,
            filename="mole.jpg",
            media_type="image/jpeg",
            sha256="0" * 64,
            size_bytes=40_213,
            width=600,
            height=450,
        )
        new = replace(plain, **overrides)
        assert jobs.create(database, new, redispatch_s)
        return new

    return make
