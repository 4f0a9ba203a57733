"""The server that tests put the API behind."""

import socket
import struct
import threading
from collections.abc import Iterator

from flask import Flask, Response

from tests.serving import serve

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close that tells the other side at once


def test_a_reader_who_resets_the_connection_has_the_body_closed() -> None:
    app, left, closed = Flask("test"), threading.Event(), threading.Event()

    def until_the_reader_leaves() -> Iterator[bytes]:
        yield b"0"
        left.wait(30)

    @app.get("/")
    def body() -> Response:
        response = Response(until_the_reader_leaves(), headers={"Content-Length": "1"})
        response.call_on_close(closed.set)
        return response

    server = serve(app)
    with socket.create_connection(("127.0.0.1", server.port)) as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        reader.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert reader.recv(1)
    left.set()
    assert closed.wait(30)
    server.shutdown()
    server.server_close()
