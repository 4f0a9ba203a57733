"""A typed client of MedQ's HTTP interface; the command line, the demo and programs use it.

Error tree
  ClientError
    Unreachable       nobody answers at the URL
    UnexpectedAnswer  somebody answers, but not as MedQ does
    ProblemError      MedQ refused the request, and says why
"""

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from shared.lifecycle import TERMINAL
from shared.schemas import (
    AnswerWhen,
    Explain,
    Job,
    JobList,
    PipelineDetail,
    PipelineInfo,
    PipelineList,
    Problem,
    Sex,
)

LOOK_AGAIN_S = 10  # an unchanged job is fetched anew after this: its place in the queue is no change
OUTAGE_S = 60.0  # how long a wait outlives a server that restarts
LOOPBACK = ("127.0.0.1", "localhost", "::1")
ID = re.compile(r"[A-Za-z0-9_-]{1,100}")

Image = Path | bytes | BinaryIO
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


class Client:
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

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def submit(
        self,
        image: Image | None,
        *,
        filename: str | None = None,
        pipeline: str | None = None,
        question: str | None = None,
        lang: str | None = None,
        age: int | None = None,
        sex: Sex | None = None,
        site: str | None = None,
        explain: Explain | None = None,
        answer: AnswerWhen | None = None,
        external: bool | None = None,
        expires_in_s: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Send a picture and a question; what is None is left to the server.

        With an `idempotency_key` the same call may be made again safely after a broken connection.

        Raises: OSError if a picture's path cannot be read, ProblemError, Unreachable, UnexpectedAnswer
        """
        fields = {
            "pipeline": pipeline, "question": question, "lang": lang, "age": age, "sex": sex, "site": site,
            "explain": explain, "answer": answer, "external": None if external is None else str(external).lower(),
            "expires_in_s": expires_in_s, "metadata": None if metadata is None else json.dumps(metadata),
        }  # fmt: skip
        # As parts without a file name, so that the body is multipart even without a picture.
        parts: dict[str, Any] = {
            name: (None, str(value)) for name, value in fields.items() if value is not None
        }
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        if isinstance(image, Path):
            with image.open("rb") as file:
                parts["image"] = (filename or _utf8(image.name), file)
                return _parsed(Job, self._send("POST", "/v1/jobs", files=parts, headers=headers))
        if image is not None:
            parts["image"] = (filename or "image", image)
        return _parsed(Job, self._send("POST", "/v1/jobs", files=parts, headers=headers))

    def get(self, id: str, wait: int | None = None) -> Job:
        """The job as it is now, or, with `wait`, after that many seconds or at its next change."""
        return _parsed(Job, self._get_job(id, wait, None))

    def watch(self, id: str) -> Iterator[Job]:
        """The job now and after every change, up to its end. Survives a server that restarts.

        Raises: ProblemError, Unreachable once the server was away for OUTAGE_S, UnexpectedAnswer
        """
        etag: str | None = None
        away_since: float | None = None
        while True:
            try:
                response = self._get_job(id, LOOK_AGAIN_S if etag else None, etag)
            except (Unreachable, ProblemError) as error:
                away_since = away_since or time.monotonic()
                if not self._passing(error) or time.monotonic() - away_since > OUTAGE_S:
                    raise
                time.sleep(getattr(error, "retry_after_s", None) or 1.0)
                continue
            away_since = None
            if response.status_code == httpx.codes.NOT_MODIFIED:
                etag = None
                time.sleep(0.1)  # a server that stops sends waiting clients home at once
                continue
            etag = response.headers.get("ETag")
            job = _parsed(Job, response)
            yield job
            if job.status in TERMINAL:
                return
            if etag is None:  # nothing to wait for a change of
                time.sleep(1.0)

    def _passing(self, error: ClientError) -> bool:
        """Whether a wait goes on: the server is busy, or away after it was there."""
        if isinstance(error, ProblemError):
            return error.problem.status in (429, 503)
        return self._reached

    def wait(self, id: str) -> Job:
        """The job once it has ended."""
        *_, job = self.watch(id)
        return job

    def _get_job(self, id: str, wait: int | None, etag: str | None) -> httpx.Response:
        return self._send(
            "GET",
            _path(id),
            params={} if wait is None else {"wait": wait},
            headers={"If-None-Match": etag} if etag else {},
            timeout=httpx.Timeout((wait or 0) + 30, connect=5),
        )

    def cancel(self, id: str) -> Job:
        return _parsed(Job, self._send("POST", f"{_path(id)}/cancel"))

    def rerun(self, id: str) -> Job:
        """A new job with the same picture and question, on the current model."""
        return _parsed(Job, self._send("POST", f"{_path(id)}/rerun"))

    def erase(self, id: str) -> None:
        """Forget the picture, the question and everything found; the bare row stays."""
        self._send("DELETE", _path(id))

    def artifact(self, id: str, name: str) -> bytes:
        return self._send("GET", f"{_path(id)}/artifacts/{_checked(name, 'an artifact')}").content

    def pipelines(self) -> tuple[PipelineInfo, ...]:
        """What this server can be asked, and why not what it cannot."""
        return tuple(_parsed(PipelineList, self._send("GET", "/v1/pipelines")).items)

    def pipeline(self, name: str) -> PipelineDetail:
        """One pipeline with its model card: thresholds, measured figures, data, licence."""
        path = f"/v1/pipelines/{_checked(name, 'a pipeline')}"
        return _parsed(PipelineDetail, self._send("GET", path))

    def list(
        self,
        *,
        status: str | None = None,
        pipeline: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        q: str | None = None,
        page: int = 50,
    ) -> Iterator[Job]:
        """Every job that matches, newest first, fetched `page` at a time as they are asked for."""
        wanted = {
            "status": status, "pipeline": pipeline, "q": q, "limit": page,
            "created_after": created_after and created_after.isoformat(),
            "created_before": created_before and created_before.isoformat(),
        }  # fmt: skip
        params = {name: value for name, value in wanted.items() if value is not None}
        while True:
            found = _parsed(JobList, self._send("GET", "/v1/jobs", params=params))
            yield from found.items
            if found.next is None:
                return
            params["cursor"] = found.next

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **options)
        except httpx.ConnectError as error:
            raise Unreachable(
                f"No server answers at {self.url}. `make run` starts one; MEDQ_URL names another."
            ) from error
        except httpx.TransportError as error:
            what = str(error) or type(error).__name__
            raise Unreachable(f"The connection to {self.url} failed: {what}.") from error
        except httpx.InvalidURL as error:
            raise Unreachable(f"{self.url} is no usable address: {error}.") from error
        self._reached = True
        if response.status_code < 300 or response.status_code == httpx.codes.NOT_MODIFIED:
            return response
        raise _refusal(response)


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


def _parsed(schema: type[Body], response: httpx.Response) -> Body:
    try:
        return schema.model_validate_json(response.content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        raise UnexpectedAnswer(
            f"{response.url.copy_with(query=None)} answered something else than a {schema.__name__} "
            f"({where}: {first['msg']}): is that a MedQ server, and this client's version?"
        ) from error


def _path(id: str) -> str:
    return f"/v1/jobs/{_checked(id, 'a job id')}"


def _checked(name: str, what: str) -> str:
    """Names become parts of a path, so that nothing else may stand in them."""
    if not ID.fullmatch(name):
        raise ClientError(f"{name!r} is not {what}.")
    return name


def _utf8(name: str) -> str:
    """A file's name as text, whatever bytes it has on disk."""
    return os.fsencode(name).decode(errors="replace")
