"""The API on a real database and broker, with a card beside weights that nobody loads."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.app import create_app
from api.services import Services
from shared.database import Database
from shared.settings import Settings
from tests.api.driving import Worker, write_model


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
