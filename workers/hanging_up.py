"""Ends a running call of a language model when its time is over, or when nobody wants it any longer."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from openai import Stream
from openai.types.chat import ChatCompletionChunk

from shared.errors import LanguageModelUnavailable, StaleAttempt

WATCH_S = 0.2  # how often a running call looks at its deadline and asks should_stop

ShouldStop = Callable[[], bool]


class Watch:
    """Why a running call has to end, if it has to."""

    def __init__(self, deadline: float, should_stop: ShouldStop | None) -> None:
        self.deadline = deadline
        self.should_stop = should_stop or (lambda: False)
        self.stopped = False
        self.failed: Exception | None = None  # what should_stop itself raised

    def look(self) -> bool:
        """True when it is time to hang up; asked by the watching thread alone."""
        try:
            self.stopped = self.should_stop()
        except Exception as error:
            self.failed = error
        return self.stopped or self.failed is not None or time.monotonic() >= self.deadline

    def check(self) -> None:
        if self.failed is not None:
            raise self.failed
        if self.stopped:
            raise StaleAttempt("The call to the language model was stopped.")
        if time.monotonic() >= self.deadline:
            raise LanguageModelUnavailable("The language model did not finish in time.")


@contextmanager
def watched(
    stream: Stream[ChatCompletionChunk], deadline: float, should_stop: ShouldStop | None
) -> Iterator[Watch]:
    """Hang up when time is over or the job is no longer wanted, even while the server says nothing.

    The package's time-out counts from byte to byte, so that a server that sends a comment now and then
    could hold a thread for ever: a thread beside the call shuts the socket, which wakes the reader.
    """
    watch, over = Watch(deadline, should_stop), threading.Event()

    def hang_up() -> None:
        while not over.wait(WATCH_S):
            if watch.look():
                _shut(stream)
                return

    watcher = threading.Thread(target=hang_up, name="llm-watch", daemon=True)
    watcher.start()
    try:
        yield watch
    finally:
        over.set()
        watcher.join()


def _shut(stream: Stream[ChatCompletionChunk]) -> None:
    network = stream.response.extensions.get("network_stream")
    connection = network.get_extra_info("socket") if network is not None else None
    if isinstance(connection, socket.socket):
        try:
            socket.socket.shutdown(connection, socket.SHUT_RDWR)  # TLS sockets, too, without their farewell
        except OSError:
            return  # the server has hung up already
