"""The connection to a MedQ server: sends requests, and turns what can go wrong into few kinds of errors.

Error tree
  ClientError
    Unreachable       nobody answers at the URL
    UnexpectedAnswer  somebody answers, but not as MedQ does
    ProblemError      MedQ refused the request, and says why
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from shared.schemas import Problem

LOOK_AGAIN_S = 10  # what did not change is fetched anew after this: its place in the queue is no change
OUTAGE_S = 60.0  # how long a wait outlives a server that restarts
LOOPBACK = ("127.0.0.1", "localhost", "::1")
ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
PASSING = (423, 429, 503)  # refusals that end by themselves

Body = TypeVar("Body", bound=BaseModel)


class ClientError(Exception):
    """The server could not be asked, or did not do what it was asked."""


class Unreachable(ClientError):
    """Nobody answers at the URL, or the connection broke."""


class UnexpectedAnswer(ClientError):
    """Something answers at the URL, but not as MedQ does."""


class ProblemError(ClientError):
    """MedQ refused the request; `problem` is what it said (RFC 9457)."""

    def __init__(self, problem: Problem, retry_after_s: float | None = None) -> None:
        self.problem = problem
        self.retry_after_s = retry_after_s
        super().__init__(str(self))

    def __str__(self) -> str:
        fields = [
            f"\n  {error.get('pointer', '')}: {error.get('detail', '')}"
            for error in self.problem.errors or []
        ]
        return f"{self.problem.title}: {self.problem.detail}" + "".join(fields)


class Connection:
    """Talks to one server. Threads may share it; close it, or use it in a `with`."""

    def __init__(self, url: str, key: str = "", *, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        self._reached = False  # whether anybody ever answered
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(60, connect=5),
            # A proxy in the environment is no way to one's own machine, and pictures must not take it.
            trust_env=urlsplit(self.url).hostname not in LOOPBACK,
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def watched(self, path: str, schema: type[Body], ended: Callable[[Body], bool]) -> Iterator[Body]:
        """What stands at `path` now and after every change, up to its end. Survives a server that restarts.

        Raises: ProblemError, Unreachable once the server was away for OUTAGE_S, UnexpectedAnswer
        """
        etag: str | None = None
        patience = Patience(self)
        while True:
            try:
                response = self.look(path, LOOK_AGAIN_S if etag else None, etag)
            except ClientError as error:
                patience.wait(error)
                continue
            patience.renew()
            if response.status_code == httpx.codes.NOT_MODIFIED:
                etag = None
                time.sleep(0.1)  # a server that stops sends waiting clients home at once
                continue
            etag = response.headers.get("ETag")
            found = parsed(schema, response)
            yield found
            if ended(found):
                return
            if etag is None:  # nothing to wait for a change of
                time.sleep(1.0)

    def look(self, path: str, wait: int | None, etag: str | None) -> httpx.Response:
        """GET that waits for a change of what bears `etag`."""
        return self.send(
            "GET",
            path,
            params={} if wait is None else {"wait": wait},
            headers={"If-None-Match": etag} if etag else {},
            timeout=httpx.Timeout((wait or 0) + 30, connect=5),
        )

    def passing(self, error: ClientError) -> bool:
        """Whether trying again makes sense: the server is busy, or away after it was there."""
        if isinstance(error, ProblemError):
            return error.problem.status in PASSING
        return isinstance(error, Unreachable) and self._reached

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Raises: ClientError"""
        with self._reaching():
            response = self._http.request(method, path, **options)
        return self._judged(response)

    @contextmanager
    def stream(self, path: str, **options: Any) -> Iterator[httpx.Response]:
        """An answer that is read piece by piece. Raises: ClientError, also while it is read"""
        with self._reaching(), self._http.stream("GET", path, **options) as response:
            if response.status_code >= 300:
                response.read()
            yield self._judged(response)

    def _judged(self, response: httpx.Response) -> httpx.Response:
        self._reached = True
        if response.status_code < 300 or response.status_code == httpx.codes.NOT_MODIFIED:
            return response
        raise _refusal(response)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectError as error:
            raise Unreachable(
                f"No server answers at {self.url}. `make run` starts one; MEDQ_URL names another."
            ) from error
        except httpx.TransportError as error:
            what = str(error) or type(error).__name__
            raise Unreachable(f"The connection to {self.url} failed: {what}.") from error
        except httpx.InvalidURL as error:
            raise Unreachable(f"{self.url} is no usable address: {error}.") from error


class Patience:
    """Waits between tries, until nothing went on for OUTAGE_S."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._since: float | None = None

    def renew(self) -> None:
        self._since = None

    def wait(self, error: ClientError) -> None:
        """Pause before the next try, or raise `error` when there should be none."""
        self._since = self._since or time.monotonic()
        if not self._connection.passing(error) or time.monotonic() - self._since > OUTAGE_S:
            raise error
        time.sleep(getattr(error, "retry_after_s", None) or 1.0)


def _refusal(response: httpx.Response) -> ClientError:
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        return UnexpectedAnswer(
            f"{response.url.copy_with(query=None)} answered {response.status_code} without saying why: "
            "is that a MedQ server?"
        )
    after = response.headers.get("Retry-After", "")
    return ProblemError(problem, float(after) if after.isdecimal() else None)


def parsed(schema: type[Body], response: httpx.Response) -> Body:
    try:
        return schema.model_validate_json(response.content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        raise UnexpectedAnswer(
            f"{response.url.copy_with(query=None)} answered something else than a {schema.__name__} "
            f"({where}: {first['msg']}): is that a MedQ server, and this client's version?"
        ) from error


def checked_name(name: str, what: str) -> str:
    """Names become parts of a path, so that nothing else may stand in them."""
    if not ID.fullmatch(name):
        raise ClientError(f"{name!r} is not {what}.")
    return name
