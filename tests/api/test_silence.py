"""Who says nothing is hung up on; who sends, takes or has just come is not."""

import socket
from collections.abc import Iterator

import pytest

from api.silence import Silence

Pair = tuple[socket.socket, socket.socket]


class Room:
    """A server in this process, with clients."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.server.getsockname()[1])
        self.pairs: list[Pair] = []

    def client(self) -> Pair:
        outside = socket.create_connection(("127.0.0.1", self.port))
        inside, _ = self.server.accept()
        for one in (outside, inside):
            one.settimeout(60)
        self.pairs.append((outside, inside))
        return outside, inside


@pytest.fixture
def room() -> Iterator[Room]:
    made = Room()
    yield made
    for pair in made.pairs:
        for one in pair:
            one.close()
    made.server.close()


def carried(sender: socket.socket, receiver: socket.socket, count: int) -> None:
    sender.sendall(bytes(count))
    left = count
    while left:
        left -= len(receiver.recv(left))


def ended(connection: socket.socket) -> bool:
    """Whether its reader has come to the end, as a thread does that waits for a body."""
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False


def test_only_who_is_silent_is_hung_up_on(room: Room) -> None:
    silence = Silence(room.port, silent_s=0.0, least_bytes=1000)
    silent, trickling, sending, taking = (room.client() for _ in range(4))
    carried(*silent, 500)  # half of a request, before anybody looks
    silence.look()
    carried(*trickling, 999)
    carried(*sending, 1000)
    carried(taking[1], taking[0], 1)
    new = room.client()
    silence.look()
    assert [ended(inside) for _, inside in (silent, trickling, sending, taking, new)] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert silent[0].recv(1) == b""


def test_connections_to_others_are_left_alone(room: Room) -> None:
    outside, inside = room.client()
    silence = Silence(room.port + 1 if room.port < 65535 else 1, silent_s=0.0)
    for _ in range(3):
        silence.look()
    assert not ended(inside)
    assert not ended(outside)
