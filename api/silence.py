"""Hangs up on clients who neither send nor take anything: a half-open upload would hold its thread for ever.

granian has a time-out for a request's headers and none for its body, and WSGI cannot stop a read. So the
process looks at its own connections. Whoever waits for a job hears from the server within a minute, and an
event stream has its heartbeat, so that neither is silent.
"""

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

SILENT_S = 75.0  # longer than the longest wait
LEAST_BYTES = 32 * 1024  # that a client must send in this time, if it takes nothing
BYTES_ACKED = 120  # offset in struct tcp_info; bytes_received follows. Source: linux/tcp.h
ESTABLISHED = 1

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Heard:
    """What a connection had carried at a moment when it last showed life."""

    at: float
    taken: int  # bytes that the client has acknowledged
    sent: int  # bytes that came from it


class Silence:
    """One thread per process; `port` is the server's own."""

    def __init__(self, port: int, silent_s: float = SILENT_S, least_bytes: int = LEAST_BYTES) -> None:
        self._port, self._silent_s, self._least = port, silent_s, least_bytes
        self._heard: dict[tuple[str, int], Heard] = {}  # by the client's address and port
        self._stopped = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._watch, name="silence", daemon=True).start()

    def close(self) -> None:
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(self._silent_s / 5):
            self.look()

    def look(self) -> None:
        """One round over all connections."""
        heard: dict[tuple[str, int], Heard] = {}
        for client, connection in clients_of(self._port):
            with connection:
                now = _carried(connection)
                if now is None:
                    continue
                heard[client] = last = self._last(client, now)
                if now.at - last.at > self._silent_s:
                    log.warning("hung_up", client=client[0], silent_s=round(now.at - last.at))
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
        self._heard = heard

    def _last(self, client: tuple[str, int], now: Heard) -> Heard:
        before = self._heard.get(client)
        if before is None or now.taken > before.taken or now.sent - before.sent >= self._least:
            return now
        return before


def clients_of(port: int) -> Iterator[tuple[tuple[str, int], socket.socket]]:
    """Duplicates of this process's connections that clients opened to `port`; the caller closes each."""
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if not str(path.readlink()).startswith("socket:"):
                continue
            connection = socket.socket(fileno=os.dup(int(path.name)))
            if connection.family not in (socket.AF_INET, socket.AF_INET6):
                connection.close()
                continue
            try:
                ours, client = connection.getsockname(), connection.getpeername()
            except OSError:  # it listens
                connection.close()
                continue
            if ours[1] == port:
                yield (client[0], client[1]), connection
            else:
                connection.close()


def _carried(connection: socket.socket) -> Heard | None:
    """Bytes in both directions; None when it is no longer established, or the kernel does not tell."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    if len(info) < BYTES_ACKED + 16 or info[0] != ESTABLISHED:
        return None
    taken, sent = struct.unpack_from("QQ", info, BYTES_ACKED)
    return Heard(time.monotonic(), taken, sent)
