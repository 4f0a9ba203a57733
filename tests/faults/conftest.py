"""One system for the whole suite, with real MariaDB and Redis servers, and the table at the end."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.run import running
from shared.database import connect
from shared.settings import Settings
from tests.faults.evidence import Report
from tests.faults.language_model import LanguageModel
from tests.faults.people import People
from tests.faults.room import ROLES, Room
from tests.rabbit import Rabbit
from tests.servers import MariaDB, Redis, free_port
from tests.tiny import tiny_model

REPORTS = pytest.StashKey[list[Report]]()
SABOTAGE = Path(__file__).with_name("sabotage")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    faults = [item for item in items if SABOTAGE.parent in item.path.parents]
    for item in faults:
        item.add_marker(pytest.mark.slow)
        item.add_marker(pytest.mark.timeout(1800))
    if not config.getoption("--long"):
        too_long = {item for item in faults if item.get_closest_marker("long")}
        items[:] = [item for item in items if item not in too_long]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reports = config.stash.get(REPORTS, [])
    if not reports:
        return
    terminalreporter.section("faults")
    head = f"{'fault':<40} {'times':>5} {'jobs':>6} {'lost':>5} {'doubled':>7} {'silent':>6} {'recovered, s':>12}"
    terminalreporter.write_line(head)
    for one in reports:
        terminalreporter.write_line(
            f"{one.fault:<40} {one.times:>5} {one.jobs:>6} {len(one.lost):>5} {len(one.doubled):>7} "
            f"{one.silent:>6} {one.recovered_s:>12.1f}"
        )


@pytest.fixture(scope="package")
def whole_room(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    mariadb = MariaDB(own_clock=True, lock_wait_s=1)
    with ExitStack() as stack:
        stack.callback(mariadb.close)
        mariadb.start()
        long = bool(request.config.getoption("--long"))
        yield stack.enter_context(opened(request.config, tmp_path_factory.mktemp("faults"), mariadb, long))


@contextmanager
def opened(
    config: pytest.Config, folder: Path, mariadb: MariaDB, long: bool, rabbit: Rabbit | None = None
) -> Iterator[Room]:
    """A whole system on these servers, and a Redis and a language model of its own."""
    sabotage = folder / "sabotage"
    sabotage.mkdir()
    tiny_model(
        folder / "models", threshold=0.14
    )  # one of seven labels passes it, so a language model is asked
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SABOTAGE", str(sabotage))
        patch.setenv(
            "PYTHONPATH", os.pathsep.join(filter(None, [str(SABOTAGE), os.environ.get("PYTHONPATH")]))
        )
        language_model, redis = LanguageModel(), Redis()
        for one in (language_model, redis):
            stack.callback(one.close)
        redis.start()
        settings = _settings(folder, mariadb, redis, language_model, long)
        _keep_blobs_elsewhere(settings.data_path, folder / "blobs")
        if rabbit:
            settings = replace(settings, broker_url=rabbit.url, redis_url=redis.tcp_url)
        system = stack.enter_context(running(settings, start_s=300))
        people = People(system.url)
        stack.callback(people.close)
        db = connect(settings.sqlalchemy_url)
        stack.callback(db.close)
        room = Room(
            system, settings, db, mariadb, redis, language_model, sabotage,
            long=long, people=people, rabbit=rabbit, reports=config.stash.setdefault(REPORTS, []),
        )  # fmt: skip
        yield room


def _keep_blobs_elsewhere(data: Path, blobs: Path) -> None:
    """Behind a link, which a test can lead astray in one step."""
    blobs.mkdir()
    data.mkdir()
    (data / "blobs").symlink_to(blobs)


def _settings(
    folder: Path, mariadb: MariaDB, redis: Redis, language_model: LanguageModel, long: bool
) -> Settings:
    """Short times, so that a suite of faults lasts seconds; and more attempts than twenty kills may cost."""
    return replace(
        Settings(),
        data_dir=str(folder / "var"),
        models_dir=str(folder / "models"),
        database_url=mariadb.create("medq_faults"),
        broker_url=redis.tcp_url,
        port=free_port(),
        flower_port=free_port(),
        answers="openai",
        openai_api_key="scripted",
        openai_base_url=language_model.url,
        openai_model="scripted-1",
        openai_timeout_s=4.0,
        answer_wait_s=10.0,
        lease_s=8.0 if long else 15.0,  # a short run must bear a machine that stands still for a moment
        redispatch_s=1.0,
        sweep_s=0.2,
        retry_base_s=0.1,
        drain_s=2.0,
        max_attempts=25,
        vision_threads=8,
        bulk_window=2,
        answer_threads=8,
        bulk_answers=4,
        archive_group=4,
        torch_threads=1,
    )


@pytest.fixture
def room(whole_room: Room) -> Iterator[Room]:
    """The system, well, and without sabotage."""
    yield whole_room
    for path in whole_room.sabotage.iterdir():
        path.unlink()
    whole_room.mariadb.restore()
    whole_room.redis.restore()


@pytest.fixture(params=ROLES)
def role(request: pytest.FixtureRequest) -> str:
    return str(request.param)
