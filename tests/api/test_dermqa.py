"""DermQA's line protocol: a real socket before it, the real API behind it."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from api import dermqa
from api.client_async import AsyncClient
from api.dermqa import HOST, LONGEST_LINE, Board, Server
from shared.settings import Settings
from shared.tables import JobRow
from tests.api.driving import ONE_DATABASE, PATIENCE_S
from tests.api.live import Live, models, picture

Send = Callable[[bytes], Awaitable[bytes]]
NO_PICTURE = b"[SERVER] Error: There is no picture of this post.\n"


@pytest.fixture
def board(tmp_path: Path) -> Path:
    folder = tmp_path / "board"
    folder.mkdir()
    picture(folder / "17.jpg")
    (folder / "18.jpg").write_bytes(b"no picture")
    (folder / "19.jpg").mkdir()
    picture(tmp_path / "20.jpg")
    return folder


@pytest.fixture
def live(settings: Callable[..., Settings], tmp_path: Path) -> Iterator[Live]:
    server = Live(settings(models_dir=str(models(tmp_path / "models"))))
    yield server
    server.close()


def ran(main: Coroutine[Any, Any, None]) -> None:
    """On a thread of its own, since Playwright leaves the main thread with a loop that runs."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, main).result()


def talked(
    url: str, board: Path, talk: Callable[[Send], Awaitable[None]], patience_s: float = PATIENCE_S
) -> None:
    """Connect to a server of `board`; what is sent answers with the next line, or with nothing at the end."""

    async def main() -> None:
        async with AsyncClient(url) as medq:
            server = await Server(medq, Board(board), patience_s).listen(0)
            async with server:
                async with asyncio.timeout(PATIENCE_S):
                    await connected(server, talk)

    ran(main())


async def connected(server: asyncio.Server, talk: Callable[[Send], Awaitable[None]]) -> None:
    reader, writer = await asyncio.open_connection(HOST, server.sockets[0].getsockname()[1])

    async def send(line: bytes) -> bytes:
        writer.write(line)
        with suppress(ConnectionError):
            return await reader.readline()
        return b""

    try:
        await talk(send)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def rows(live: Live) -> list[JobRow]:
    return list(live.db.read(lambda session: session.scalars(select(JobRow)).all()))


@ONE_DATABASE
def test_a_post_is_named_by_its_picture(live: Live, board: Path) -> None:
    live.work()

    async def talk(send: Send) -> None:
        assert await send(b"IMG 17\n") == b"[SERVER] Prediction: Melanoma\n"
        assert await send(b"hello\r\n") == b"[SERVER] HI\n"
        assert await send(b"IMG 17\r\n") == b"[SERVER] Prediction: Melanoma\n"
        assert await send(b"[PSTOP]\n") == b""

    talked(live.url, board, talk)
    assert [(row.pipeline, row.lang, row.answered, row.filename) for row in rows(live)] == [
        ("skin", "ko", False, "17.jpg")
    ] * 2


@ONE_DATABASE
def test_what_is_no_known_post_is_said_plainly(live: Live, board: Path) -> None:
    async def talk(send: Send) -> None:
        for name in (b"16", b"19", b"0017", b"-1", b"../20", b"*", b"17.jpg", b"\xef\xbc\x91", b"9" * 900):
            assert await send(b"IMG " + name + b"\n") == NO_PICTURE, name
        for line in (b"", b"IMG", b"IMG 17 18", b"img 17", b"\xff\xfe", b"\0"):
            assert await send(line + b"\n") == b"[SERVER] HI\n", line
        assert (await send(b"IMG 18\n")).startswith(b"[SERVER] Error: The bytes are not a picture")

    talked(live.url, board, talk)
    assert rows(live) == []


@ONE_DATABASE
def test_a_line_without_end_is_hung_up_on(live: Live, board: Path) -> None:
    async def talk(send: Send) -> None:
        assert await send(b"x" * (4 * LONGEST_LINE)) == b""

    talked(live.url, board, talk)


@ONE_DATABASE
def test_past_the_most_connections_it_is_said_plainly(
    live: Live, board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dermqa, "MOST_CONNECTIONS", 0)

    async def talk(send: Send) -> None:
        assert await send(b"") == b"[SERVER] Error: Too many connections.\n"
        assert await send(b"") == b""

    talked(live.url, board, talk)


@ONE_DATABASE
def test_a_job_that_does_not_end_in_time_is_canceled(live: Live, board: Path) -> None:
    async def talk(send: Send) -> None:
        assert await send(b"IMG 17\n") == b"[SERVER] Error: The picture was not looked at in time.\n"

    talked(live.url, board, talk, patience_s=0.1)
    assert [row.status for row in rows(live)] == ["canceled"]


@ONE_DATABASE
def test_a_job_that_fails_says_why(live: Live, board: Path) -> None:
    live.error = True
    live.work()

    async def talk(send: Send) -> None:
        assert (await send(b"IMG 17\n")).startswith(
            b"[SERVER] Error: The stored picture could not be decoded"
        )

    talked(live.url, board, talk)


def test_without_medq_it_is_said_plainly(board: Path) -> None:
    async def talk(send: Send) -> None:
        assert await send(b"IMG 17\n") == b"[SERVER] Error: MedQ cannot be asked at the moment.\n"

    talked("http://127.0.0.1:1", board, talk)


@pytest.mark.parametrize("folder", ["", "/nonexistent/board"])
def test_it_does_not_start_without_a_folder(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    monkeypatch.setenv("MEDQ_BOARD_DIR", folder)
    with pytest.raises(SystemExit, match="MEDQ_BOARD_DIR"):
        dermqa.main()
