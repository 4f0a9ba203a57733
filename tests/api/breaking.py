"""A wire that breaks: forwards a connection to a server, and cuts it after so many bytes of the client's."""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class Wire:
    """`cuts` holds, connection by connection, how many bytes the client gets through; then nothing breaks."""

    def __init__(self, port: int, cuts: list[int]) -> None:
        self._target = port
        self.cuts = cuts
        self.broken = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for thread in self._threads:
            thread.join(60)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._server.accept()[0]
                server = socket.create_connection(("127.0.0.1", self._target))
                for pair in ((client, server, True), (server, client, False)):
                    thread = threading.Thread(target=self._forward, args=pair, daemon=True)
                    self._threads.append(thread)
                    thread.start()

    def _forward(self, source: socket.socket, sink: socket.socket, outward: bool) -> None:
        """Requests of a few hundred bytes pass whole; what is larger meets the next cut."""
        left: int | None = None
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if outward and left is None and len(data) > 2000 and self.cuts:
                    left = self.cuts.pop(0)
                if left is not None and len(data) >= left:
                    sink.sendall(data[:left])
                    self.broken += 1
                    break
                left = left - len(data) if left is not None else None
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
