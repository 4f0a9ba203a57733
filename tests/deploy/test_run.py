"""What stands in the way of a start is said in a sentence that names the setting."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.run import RunError, running
from shared.settings import Settings
from tests.servers import free_port


@pytest.fixture
def plain(tmp_path: Path) -> Settings:
    return Settings(data_dir=str(tmp_path), port=free_port(), flower_port=free_port())


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def refused(settings: Settings) -> str:
    with pytest.raises(RunError) as error, running(settings, start_s=300):
        pass
    return error.value.detail


@pytest.mark.parametrize(
    ("setting", "variable"), [("port", "MEDQ_PORT"), ("flower_port", "MEDQ_FLOWER_PORT")]
)
def test_a_taken_port_is_named_with_another_to_try(
    plain: Settings, taken: int, setting: str, variable: str
) -> None:
    detail = refused(replace(plain, **{setting: taken}))  # type: ignore[arg-type]
    assert f"Port {taken}" in detail
    assert f"{variable}={taken + 1}" in detail


def test_a_database_that_does_not_answer_is_named_without_its_password(plain: Settings) -> None:
    url = f"mysql+pymysql://medq:secret@127.0.0.1:{free_port()}/medq"
    detail = refused(replace(plain, database_url=url))
    assert "MEDQ_DATABASE_URL" in detail
    assert "secret" not in detail


def test_a_broker_that_does_not_answer_is_named_without_its_password(plain: Settings) -> None:
    port = free_port()
    detail = refused(replace(plain, broker_url=f"redis://:secret@127.0.0.1:{port}/0"))
    assert f"127.0.0.1:{port}" in detail
    assert "secret" not in detail


def test_a_rabbitmq_that_does_not_answer_is_named_without_its_password(plain: Settings) -> None:
    port = free_port()
    detail = refused(replace(plain, broker_url=f"amqp://medq:secret@127.0.0.1:{port}//"))
    assert f"No RabbitMQ lets us in at 127.0.0.1:{port}" in detail
    assert "secret" not in detail


def test_a_process_that_cannot_start_is_named_with_its_last_words(plain: Settings, tmp_path: Path) -> None:
    empty = tmp_path / "models"
    empty.mkdir()
    detail = refused(replace(plain, models_dir=str(empty)))
    assert "vision does not start" in detail
    assert "no weights" in detail
