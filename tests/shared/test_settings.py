"""Settings: read once, refused all at once, documented in full."""

import tempfile
from dataclasses import fields
from pathlib import Path

import pytest
from sqlalchemy import make_url

from shared.errors import SettingsError
from shared.queue import Dispatcher, Hints
from shared.settings import CLIENT_VARIABLES, ROOT, UNIX_SOCKET_LIMIT, Settings, documented, variable


def refused(**environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(environ)
    return caught.value.detail.splitlines()


def test_nothing_set_gives_the_defaults() -> None:
    assert Settings.from_env({}) == Settings()


def test_an_empty_variable_counts_as_unset() -> None:
    assert Settings.from_env({"MEDQ_PORT": "", "MEDQ_DEVICE": ""}) == Settings()


def test_values_are_read_as_their_kind() -> None:
    read = Settings.from_env({"MEDQ_PORT": "9000", "MEDQ_LEASE_S": "2.5", "MEDQ_DEVICE": "cpu"})
    assert (read.port, read.lease_s, read.device) == (9000, 2.5, "cpu")


def test_strangers_in_the_environment_are_none_of_our_business() -> None:
    assert Settings.from_env({"PATH": "/bin", "OPENAI_ORG": "x", "MEDQ_URL": "http://x", "MEDQ_KEY": "k"})


@pytest.mark.parametrize("keys", ["x", ",", "AAAA", f"{'A' * 43}=,", f"{'A' * 44}=", f"{'A' * 42}é="])
def test_keys_that_are_none_are_refused_without_being_shown(keys: str) -> None:
    (line,) = refused(MEDQ_BLOB_KEYS=keys)
    assert line.startswith("MEDQ_BLOB_KEYS: must be 32 bytes in base64")
    assert keys not in line or len(keys) < 2


def test_every_bad_value_is_named_at_once() -> None:
    lines = refused(
        MEDQ_PORT="http",
        MEDQ_LEASE_S="0.5",
        MEDQ_DEVICE="tpu",
        MEDQ_DATABASE_URL="postgresql://secret@host/medq",
        MEDQ_BROKER_URL="kafka://secret@host",
        MEDQ_REDIS_URL="amqp://secret@host",
        MEDQ_HOST="0.0.0.0",
        MEDQ_ANSWERS="openai",
        MEDQ_PROT="8000",
    )
    assert lines == [
        "MEDQ_PORT: 'http' is not a number",
        "MEDQ_LEASE_S: 0.5 is not between 1 and 3600",
        "MEDQ_DEVICE: 'tpu' is not one of auto, cpu, cuda",
        "MEDQ_PROT: there is no such setting",
        "MEDQ_HOST: with MEDQ_AUTH=open the API listens on loopback only, such as 127.0.0.1; "
        "MEDQ_AUTH=keys lifts this",
        "MEDQ_DATABASE_URL: must start with one of sqlite:///, mysql+pymysql://, mariadb+pymysql://",
        "MEDQ_BROKER_URL: must start with one of redis://, rediss://, unix://, amqp://",
        "MEDQ_REDIS_URL: must start with one of redis://, rediss://, unix://",
        "OPENAI_API_KEY: MEDQ_ANSWERS=openai needs a key (any text for a server that asks none)",
    ]


def test_flower_is_shown_beyond_loopback_behind_a_password_only() -> None:
    assert refused(MEDQ_FLOWER_HOST="0.0.0.0") == [
        "MEDQ_FLOWER_HOST: beyond loopback Flower needs MEDQ_FLOWER_PASSWORD"
    ]
    assert Settings.from_env({"MEDQ_FLOWER_HOST": "0.0.0.0", "MEDQ_FLOWER_PASSWORD": "x" * 16})


@pytest.mark.parametrize("password", ["x" * 15, "x" * 15 + "점", "x" * 16 + "\n"])
def test_a_password_of_flower_is_long_and_can_be_typed(password: str) -> None:
    (line,) = refused(MEDQ_FLOWER_PASSWORD=password)
    assert line.startswith("MEDQ_FLOWER_PASSWORD: must be at least 16 ASCII characters")
    assert password not in line


@pytest.mark.parametrize(
    ("host", "chosen", "only_shows"),
    [
        ("127.0.0.1", "auto", False),
        ("10.0.0.1", "auto", True),
        ("127.0.0.1", "yes", True),
        ("10.0.0.1", "no", False),
    ],
)
def test_flower_only_shows_beyond_loopback_unless_somebody_decides(
    host: str, chosen: str, only_shows: bool
) -> None:
    read = Settings.from_env(
        {"MEDQ_FLOWER_HOST": host, "MEDQ_FLOWER_READ_ONLY": chosen, "MEDQ_FLOWER_PASSWORD": "x" * 16}
    )
    assert read.flower_only_shows is only_shows


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "0", "65536", "80.5", "eighty", "8 0"])
def test_a_port_must_be_one(text: str) -> None:
    assert len(refused(MEDQ_PORT=text)) == 1


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e9", "-1", "1s"])
def test_a_duration_must_be_one(text: str) -> None:
    assert len(refused(MEDQ_LEASE_S=text)) == 1


def test_neither_refusals_nor_logged_settings_tell_secrets() -> None:
    lines = refused(MEDQ_DATABASE_URL="postgresql://u:hush@host/medq", MEDQ_BROKER_URL="amqps://u:hush@host")
    assert "hush" not in "\n".join(lines)
    assert "hush" not in repr(
        Settings(database_url="hush", broker_url="hush", redis_url="hush", openai_api_key="hush")
    )


def test_relative_folders_are_the_repositorys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings().data_path == ROOT / "var"
    assert Settings(data_dir="/srv/medq").data_path == Path("/srv/medq")


def test_the_data_folder_holds_what_no_url_names() -> None:
    settings = Settings(data_dir="/srv/medq")
    assert settings.sqlalchemy_url == "sqlite:////srv/medq/medq.sqlite3"
    assert settings.redis_location == "unix:///srv/medq/redis.sock"
    assert settings.celery_broker_url == "redis+socket:///srv/medq/redis.sock"
    assert settings.storage_location == "/srv/medq/blobs"


def test_a_url_wins_over_the_data_folder() -> None:
    settings = Settings(database_url="mysql+pymysql://u@h/medq", broker_url="redis://h:6379/1")
    assert settings.sqlalchemy_url == "mysql+pymysql://u@h/medq"
    assert settings.redis_location == settings.celery_broker_url == "redis://h:6379/1"


def test_beside_rabbitmq_redis_is_the_embedded_one_or_what_its_own_setting_names() -> None:
    alone = Settings(data_dir="/srv/medq", broker_url="amqp://u:p@h:5672//")
    assert alone.rabbit
    assert alone.celery_broker_url == "amqp://u:p@h:5672//"
    assert (alone.given_redis_url, alone.redis_location) == ("", "unix:///srv/medq/redis.sock")
    both = Settings(broker_url="amqp://h//", redis_url="redis://r:6379/0")
    assert both.given_redis_url == both.redis_location == "redis://r:6379/0"


@pytest.mark.parametrize("letter", ["x", "한"])
def test_a_socket_path_that_linux_cannot_hold_moves_to_the_temporary_folder(letter: str) -> None:
    short, long = Settings(data_dir="/srv"), Settings(data_dir=f"/{letter * 60}/{letter * 60}")
    assert short.redis_socket.parent == Path("/srv")
    assert long.redis_socket.parent == Path(tempfile.gettempdir())
    assert len(bytes(long.redis_socket)) <= UNIX_SOCKET_LIMIT
    assert long.redis_socket == Settings(data_dir=long.data_dir).redis_socket
    assert long.redis_socket != Settings(data_dir=long.data_dir + letter).redis_socket


def test_the_longest_path_that_linux_holds_stays() -> None:
    folder = "/" + "x" * (UNIX_SOCKET_LIMIT - len("//redis.sock"))
    assert len(bytes(Settings(data_dir=folder).redis_socket)) == UNIX_SOCKET_LIMIT
    assert Settings(data_dir=folder + "x").redis_socket.parent == Path(tempfile.gettempdir())


@pytest.mark.parametrize("name", ["a b", "100%25", "what?x=1", "h#sh", "흑색종", "a@b:c"])
def test_any_folder_name_reaches_all_three_clients(name: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=str(tmp_path / name))
    dispatcher, hints = Dispatcher(settings), Hints(settings)
    paths = {
        make_url(settings.sqlalchemy_url).database,
        hints._redis.connection_pool.connection_kwargs["path"].replace("redis.sock", "medq.sqlite3"),
    }
    assert paths == {str(tmp_path / name / "medq.sqlite3")}
    dispatcher.close()
    hints.close()


def test_every_setting_explains_itself() -> None:
    rows = documented()
    assert len({name for name, _, _ in rows}) == len(rows) == len(fields(Settings)) + len(CLIENT_VARIABLES)
    assert all(text and "\n" not in text for _, _, text in rows)
    assert {variable(item) for item in fields(Settings)} <= {name for name, _, _ in rows}


def test_the_readme_lists_every_setting_with_default_and_help() -> None:
    listed = []
    for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.replace(r"\|", "\0").strip().strip("|").split("|")]
        name = cells[0].strip("`")
        if len(cells) == 3 and cells[0] == f"`{name}`" and name.isupper():
            listed.append((name, cells[1].strip("`"), cells[2].replace("\0", "|")))
    assert listed == documented()


def test_with_keys_any_address_may_be_listened_on() -> None:
    assert Settings.from_env({"MEDQ_HOST": "0.0.0.0", "MEDQ_AUTH": "keys"}).host == "0.0.0.0"


@pytest.mark.parametrize(
    "prices", ["{", "[]", '{"a": 1}', '{"a": [1]}', '{"a": [1, -1]}', '{"a": [1, NaN]}', '{"a": [true, 1]}']
)
def test_prices_that_are_none_are_refused_at_the_start(prices: str) -> None:
    with pytest.raises(SettingsError, match="MEDQ_PRICES"):
        Settings.from_env({"MEDQ_PRICES": prices})
