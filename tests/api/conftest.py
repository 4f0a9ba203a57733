"""The API on a real database and broker, with a card beside weights that nobody loads."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from playwright.sync_api import Browser, sync_playwright

from api.app import create_app
from api.services import Services
from api.waiting import Watch
from shared.database import Database
from shared.settings import ROOT, Settings
from tests.api.browsing import PATIENCE_MS, Visitor, visiting
from tests.api.driving import Waits, Worker, write_model
from tests.api.live import Live, models
from tests.servers import Redis, needs


@pytest.fixture
def configured(settings: Callable[..., Settings], tmp_path: Path) -> Callable[..., Settings]:
    """`configured(api_threads=8)`: settings of an API whose skin pipeline can run."""
    write_model(tmp_path / "models" / "skin")
    return lambda **overrides: settings(**{"models_dir": str(tmp_path / "models")} | overrides)


@pytest.fixture
def start(configured: Callable[..., Settings]) -> Iterator[Callable[..., Flask]]:
    """`start(api_threads=8)`: an app; it is closed when the test ends."""
    opened = []

    def make(**overrides: Any) -> Flask:
        rooms = Services.open(chosen := configured(**overrides))
        opened.append(rooms)
        return create_app(chosen, rooms)

    yield make
    for rooms in opened:
        rooms.close()


@pytest.fixture
def app(start: Callable[..., Flask]) -> Flask:
    return start()


@pytest.fixture
def rooms(app: Flask) -> Services:
    found: Services = app.extensions["medq"]
    return found


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def worker(database: Database) -> Worker:
    return Worker(database)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    made, wait = Waits(), Watch.wait
    monkeypatch.setattr(Watch, "wait", lambda watch, seen, timeout_s: made.of(wait, watch, seen, timeout_s))
    return made


# A browser on the page. It takes seconds to start, so the tests share it, and one server.


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    program = needs("chromium", "chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox"], timeout=PATIENCE_MS
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def page_settings(
    tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path, redis_server: Redis
) -> Settings:
    folder = tmp_path_factory.mktemp("page")
    shutil.copy(sqlite_template, folder / "medq.sqlite3")
    (folder / "var").mkdir()
    return Settings(
        data_dir=str(folder / "var"),
        database_url=f"sqlite:///{folder / 'medq.sqlite3'}",
        broker_url=redis_server.url,
        models_dir=str(models(folder / "models")),
        api_threads=64,
        event_heartbeat_s=0.5,
        log_format="console",
        log_level="ERROR",
    )


@pytest.fixture(scope="session")
def page_server(page_settings: Settings) -> Iterator[Live]:
    live = Live(page_settings)
    yield live
    live.close()


@pytest.fixture
def visit(chromium: Browser, page_server: Live, redis_server: Redis) -> Iterator[Callable[..., Visitor]]:
    """`visit("ko", "phone")`: a visitor; what the browser complained of fails the test at its end.

    Screenshots go to var/screenshots, for people to look at.
    """
    redis_server.restore()
    shots = ROOT / "var" / "screenshots"
    visitors: list[Visitor] = []
    with ExitStack() as open_:

        def start(
            lang: str = "en", size: str = "desk", scheme: str = "light", live: Live = page_server
        ) -> Visitor:
            visitors.append(open_.enter_context(visiting(chromium, live, shots, lang, size, scheme)))
            return visitors[-1]

        yield start
        for visitor in visitors:
            visitor.check()


@pytest.fixture
def second_server(page_settings: Settings) -> Iterator[Callable[..., Live]]:
    """`second_server(api_threads=4)`: another API on the same database."""
    opened: list[Live] = []

    def start(**overrides: Any) -> Live:
        opened.append(Live(replace(page_settings, **overrides)))
        return opened[-1]

    yield start
    for live in opened:
        live.close()
