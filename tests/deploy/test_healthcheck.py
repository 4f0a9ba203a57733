"""The containers' probe, against a real API and a real Redis."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploy import healthcheck
from shared.figures import Figures
from shared.settings import Settings
from shared.totals import WORKERS, Teller
from tests.api.live import Live, models
from tests.servers import Redis, free_port

sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def live(settings: Callable[..., Settings], tmp_path: Path) -> Iterator[Live]:
    server = Live(settings(models_dir=str(models(tmp_path / "models")), hosts="medq.example.org"))
    yield server
    server.close()


@sqlite
def test_an_api_that_answers_is_well_under_whatever_name_it_answers(live: Live) -> None:
    assert healthcheck.api(replace(live.settings, port=live.port))


@sqlite
def test_an_api_that_does_not_answer_is_ill(settings: Callable[..., Settings]) -> None:
    assert not healthcheck.api(settings(port=free_port()))


@sqlite
def test_a_worker_is_well_while_it_tells_its_figures(
    settings: Callable[..., Settings], broker: Redis
) -> None:
    chosen = settings()
    assert not healthcheck.worker(chosen)
    teller = Teller(chosen, Figures(), "vision")
    teller.tell()
    assert healthcheck.worker(chosen)
    broker.client().zadd(WORKERS, dict.fromkeys(broker.client().zrange(WORKERS, 0, -1), 1))  # long silent
    assert not healthcheck.worker(chosen)
    teller.close()


@sqlite
def test_another_machines_worker_says_nothing_of_this_one(
    settings: Callable[..., Settings], broker: Redis
) -> None:
    broker.client().zadd(WORKERS, {f"vision not-{socket.gethostname()}:1": 2**40})
    assert not healthcheck.worker(settings())


@sqlite
def test_without_redis_no_worker_is_called_ill(settings: Callable[..., Settings]) -> None:
    assert healthcheck.worker(settings(broker_url="redis://127.0.0.1:1/0"))


@pytest.mark.parametrize("words", [[], ["nonsense"]])
def test_bad_usage_is_an_illness(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["healthcheck", *words])
    with pytest.raises(SystemExit) as ended:
        healthcheck.main()
    assert ended.value.code != 0
