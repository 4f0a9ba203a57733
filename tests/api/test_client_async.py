"""The client for asyncio against the real app behind a real socket."""

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

from api.client import Client, ProblemError, Unreachable
from api.client_async import AsyncClient
from api.transport import Connection
from shared.settings import Settings
from tests.api.live import Live, models, picture
from tests.servers import free_port

T = TypeVar("T")

sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def ran(main: Coroutine[Any, Any, T]) -> T:
    """Its result. On a thread of its own, since Playwright leaves the main thread with a loop that runs."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, main).result()


@pytest.fixture
def live(settings: Callable[..., Settings], tmp_path: Path) -> Iterator[Live]:
    server = Live(settings(models_dir=str(models(tmp_path / "models"))))
    yield server
    server.close()


@sqlite
def test_many_jobs_are_waited_for_at_once(live: Live, tmp_path: Path) -> None:
    live.work(after=8)  # nothing is done before all eight are there

    async def main() -> list[str | None]:
        async with AsyncClient(live.url) as medq:
            files = [picture(tmp_path / f"{number}.jpg", 20 * number) for number in range(8)]
            jobs = await asyncio.gather(*(medq.submit(file, question="Is it dangerous?") for file in files))
            ended = await asyncio.gather(*(medq.wait(job.id) for job in jobs))
            assert [job.id for job in ended] == [job.id for job in jobs]
            return [job.findings[0].name for job in ended if job.findings]

    assert ran(main()) == ["Melanoma"] * 8


@sqlite
def test_a_job_is_watched_and_jobs_are_listed(live: Live, tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncClient(live.url) as medq:
            first = await medq.submit(picture(tmp_path / "mole.jpg"))
            live.work()
            statuses = [job.status async for job in medq.watch(first.id)]
            assert (statuses[0], statuses[-1]) == ("queued", "succeeded")
            for _ in range(3):
                await medq.submit(picture(tmp_path / "mole.jpg"))
            assert len([job.id async for job in medq.list(page=2)]) == 4

    ran(main())


@sqlite
def test_a_wait_that_is_given_up_lets_others_go_on(live: Live, tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncClient(live.url) as medq:
            job = await medq.submit(picture(tmp_path / "mole.jpg"))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(medq.get(job.id, wait=5), 0.05)
            assert (await medq.cancel(job.id)).status == "canceled"

    ran(main())


@sqlite
def test_refusals_are_raised_where_they_are_awaited(live: Live) -> None:
    async def main() -> None:
        async with AsyncClient(live.url) as medq:
            with pytest.raises(ProblemError, match="image"):
                await medq.submit(b"no picture")

    ran(main())


def test_nobody_there_is_said() -> None:
    async def main() -> None:
        async with AsyncClient(f"http://127.0.0.1:{free_port()}") as medq:
            with pytest.raises(Unreachable):
                await medq.about()

    ran(main())


def test_every_call_of_the_client_is_there_with_its_parameters() -> None:
    own = {name for name, _ in inspect.getmembers(Connection, inspect.isfunction)}
    calls = {
        name: call
        for name, call in inspect.getmembers(Client, inspect.isfunction)
        if not name.startswith("_") and name not in own
    }
    assert {"submit", "watch", "batch", "pause"} <= set(calls)
    for name, call in calls.items():
        assert inspect.signature(getattr(AsyncClient, name)) == inspect.signature(call), name
