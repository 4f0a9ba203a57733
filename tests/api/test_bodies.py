"""Places for bodies: held while one is on its way in, and not a moment longer."""

import io
from collections.abc import Iterable
from typing import Any

import pytest

from api import bodies
from api.bodies import Bodies
from shared.errors import ServiceUnavailable


def environ(body: bytes, length: int | None = None) -> dict[str, Any]:
    declared = {} if length is None else {"CONTENT_LENGTH": str(length)}
    return {"wsgi.input": io.BytesIO(body)} | declared


def nested(first: dict[str, Any], second: dict[str, Any], size: int) -> bytes:
    """Read `size` bytes of the first body, then all of the second while the first is still being served."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ is first:
            environ["wsgi.input"].read(size)
            return served(second, None)
        return [environ["wsgi.input"].read()]

    served = Bodies(app, most=1)
    return b"".join(served(first, None))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "PATIENCE_S", 0.0)


def test_a_body_that_has_come_holds_no_place_while_it_is_worked_on() -> None:
    assert nested(environ(b"first", 5), environ(b"second", 6), size=5) == b"second"


def test_a_body_that_is_still_coming_holds_its_place() -> None:
    with pytest.raises(ServiceUnavailable):
        nested(environ(b"first", 5), environ(b"second", 6), size=4)


def test_without_a_length_the_end_of_the_stream_ends_the_hold() -> None:
    first = environ(b"")
    assert nested(first, environ(b"second"), size=-1) == b"second"
    with pytest.raises(ServiceUnavailable):
        nested(environ(b"first"), environ(b"second"), size=4)


def test_a_request_without_a_body_needs_no_place() -> None:
    assert nested(environ(b"first", 5), environ(b"", 0), size=4) == b""
