"""Counts what a server that is away costs its callers, in tries and time-outs, since a clock measures the machine."""

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest


@dataclass
class Met:
    """What one thread met on sockets."""

    connects: int = 0  # tries to reach somebody
    ran_out_s: list[float | None] = field(default_factory=list)  # each time-out that ran out, as it was set


@dataclass
class Cost:
    """What every thread of this process met."""

    _met: dict[int, Met] = field(default_factory=dict)  # by thread
    before_reading: Callable[[], object] = lambda: None

    @property
    def mine(self) -> Met:
        return self._met.setdefault(threading.get_ident(), Met())

    def of(self, call: Callable[[], Any]) -> tuple[Any, Met]:
        """What a call answers, and what this thread met meanwhile."""
        self._met[threading.get_ident()] = met = Met()
        return call(), met


def counted(monkeypatch: pytest.MonkeyPatch) -> Cost:
    """Count on every socket that is made while the test runs."""
    cost = Cost()

    class Counted(socket.socket):
        def connect(self, address: Any) -> None:
            cost.mine.connects += 1
            self._timed(super().connect, address)

        def recv(self, *arguments: Any) -> bytes:
            cost.before_reading()
            return bytes(self._timed(super().recv, *arguments))

        def recv_into(self, *arguments: Any) -> int:
            cost.before_reading()
            return int(self._timed(super().recv_into, *arguments))

        def _timed(self, call: Callable[..., Any], *arguments: Any) -> Any:
            try:
                return call(*arguments)
            except TimeoutError:
                cost.mine.ran_out_s.append(self.gettimeout())
                raise

    monkeypatch.setattr(socket, "socket", Counted)
    return cost
