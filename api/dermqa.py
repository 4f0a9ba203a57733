"""DermQA's line protocol over TCP, as a client of MedQ's own interface: `python -m api.dermqa`."""

import asyncio
import re
import sys
from asyncio import StreamReader, StreamWriter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from api.client_async import AsyncClient
from api.transport import ClientError, ProblemError
from shared import logs
from shared.errors import ServiceError, SettingsError
from shared.schemas import Job
from shared.settings import Settings, client_settings

HOST = "127.0.0.1"  # the protocol knows no keys: whoever may connect may ask
LONGEST_LINE = 1024  # bytes
MOST_CONNECTIONS = 32
IDLE_S = 600.0  # for the next line, and for a reply to be taken
PATIENCE_S = 60.0  # with a job
STOP = "[PSTOP]"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Board:
    """The pictures of a board's posts: files named by the post's number, such as 17.jpg."""

    folder: Path

    def picture(self, board_id: str) -> Path | None:
        """None when there is none. What is no number never becomes a part of a path."""
        if not re.fullmatch(r"[0-9]{1,18}", board_id):
            return None
        return min((path for path in self.folder.glob(f"{board_id}.*") if path.is_file()), default=None)


class Server:
    """Answers line by line; a connection's lines one after the other."""

    def __init__(self, medq: AsyncClient, board: Board, patience_s: float = PATIENCE_S) -> None:
        self._medq, self._board, self._patience_s = medq, board, patience_s
        self._connections = 0

    async def listen(self, port: int) -> asyncio.Server:
        return await asyncio.start_server(self.connected, HOST, port, limit=LONGEST_LINE)

    async def connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections > MOST_CONNECTIONS:
                await _send(writer, "Error: Too many connections.")
            else:
                await self._serve(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # gone, silent, or no client of this protocol
        finally:
            self._connections -= 1
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        while True:
            line = await asyncio.wait_for(reader.readuntil(b"\n"), IDLE_S)
            text = line.decode(errors="replace").strip()
            if text == STOP:
                return
            await _send(writer, await self.reply(text))

    async def reply(self, line: str) -> str:
        asked = re.fullmatch(r"IMG\s+(\S+)", line)
        if not asked:
            return "HI"
        picture = self._board.picture(asked[1])
        if picture is None:
            return "Error: There is no picture of this post."
        try:
            return _said(await self._ended(picture))
        except OSError:
            return "Error: The picture of this post cannot be read."
        except ProblemError as error:
            return f"Error: {error.problem.detail}"
        except ClientError as error:
            log.warning("medq_away", error=type(error).__name__)
            return "Error: MedQ cannot be asked at the moment."

    async def _ended(self, picture: Path) -> Job:
        """Raises: OSError, ClientError"""
        job = await self._medq.submit(picture, pipeline="skin", lang="ko", answer="never")
        waiting = asyncio.ensure_future(self._medq.wait(job.id))
        ended, _ = await asyncio.wait({waiting}, timeout=self._patience_s)
        if not ended:
            with suppress(ProblemError):  # it has ended just now
                await self._medq.cancel(job.id)
        return await waiting


def _said(job: Job) -> str:
    """The Korean name of the first finding, as the board's own server said it."""
    if job.status == "succeeded" and job.findings:
        return f"Prediction: {job.findings[0].name}"
    return f"Error: {job.error.detail if job.error else 'The picture was not looked at in time.'}"


async def _send(writer: StreamWriter, text: str) -> None:
    writer.write(f"[SERVER] {' '.join(text.split())}\n".encode())
    await asyncio.wait_for(writer.drain(), IDLE_S)


async def serve(settings: Settings, url: str, key: str) -> None:
    """Until the process is told to stop."""
    async with AsyncClient(url, key) as medq:
        server = await Server(medq, Board(settings.board_path)).listen(settings.board_port)
        log.info("listening", port=settings.board_port)
        async with server:
            await server.serve_forever()


def main() -> None:
    try:
        settings = Settings.from_env()
        if not settings.board_dir or not settings.board_path.is_dir():
            raise SettingsError("MEDQ_BOARD_DIR: must be the folder of the board's pictures")
        logs.configure(settings.log_level, settings.log_format, "dermqa")
        with suppress(KeyboardInterrupt):
            asyncio.run(serve(settings, *client_settings()))
    except ServiceError as error:
        sys.exit(f"{error.title}: {error.detail}")
    except OSError as error:
        sys.exit(f"Cannot listen on {HOST}: {error.strerror}. MEDQ_BOARD_PORT names another port.")


if __name__ == "__main__":
    main()
