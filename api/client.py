"""A typed client of MedQ's HTTP interface; the command line, the demo and programs use it."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal

from api.client_batches import BatchClient
from api.client_operate import OperateClient
from api.sources import utf8_name
from api.transport import (
    ClientError,
    ProblemError,
    UnexpectedAnswer,
    Unreachable,
    checked_name,
    parsed,
)
from shared.lifecycle import TERMINAL
from shared.schemas import (
    About,
    AgreementInfo,
    AgreementList,
    AnswerWhen,
    Explain,
    Job,
    JobList,
    PipelineDetail,
    PipelineInfo,
    PipelineList,
    Review,
    ReviewList,
    Sex,
    Usage,
)

__all__ = ["Client", "ClientError", "ProblemError", "UnexpectedAnswer", "Unreachable"]

Image = Path | bytes | BinaryIO


class Client(BatchClient, OperateClient):
    """Talks to one server. Threads may share it; close it, or use it in a `with`."""

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
        frame: int | None = None,
        answer: AnswerWhen | None = None,
        external: bool | None = None,
        expires_in_s: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        webhook_url: str | None = None,
        webhook_events: str | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Send a picture and a question; what is None is left to the server.

        With an `idempotency_key` the same call may be made again safely after a broken connection.

        Raises: OSError if a picture's path cannot be read, ProblemError, Unreachable, UnexpectedAnswer
        """
        fields = {
            "pipeline": pipeline, "question": question, "lang": lang, "age": age, "sex": sex, "site": site,
            "explain": explain, "frame": frame, "answer": answer,
            "external": None if external is None else str(external).lower(),
            "webhook_url": webhook_url, "webhook_events": webhook_events, "expires_in_s": expires_in_s,
            "metadata": None if metadata is None else json.dumps(metadata),
        }  # fmt: skip
        # As parts without a file name, so that the body is multipart even without a picture.
        parts: dict[str, Any] = {
            name: (None, str(value)) for name, value in fields.items() if value is not None
        }
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        if isinstance(image, Path):
            with image.open("rb") as file:
                parts["image"] = (filename or utf8_name(image.name), file)
                return parsed(Job, self.send("POST", "/v1/jobs", files=parts, headers=headers))
        if image is not None:
            parts["image"] = (filename or "image", image)
        return parsed(Job, self.send("POST", "/v1/jobs", files=parts, headers=headers))

    def get(self, id: str, wait: int | None = None) -> Job:
        """The job as it is now, or, with `wait`, after that many seconds or at its next change."""
        return parsed(Job, self.look(_path(id), wait, None))

    def watch(self, id: str) -> Iterator[Job]:
        """The job now and after every change, up to its end. Survives a server that restarts.

        Raises: ProblemError, Unreachable once the server was away for OUTAGE_S, UnexpectedAnswer
        """
        return self.watched(_path(id), Job, lambda job: job.status in TERMINAL)

    def wait(self, id: str) -> Job:
        """The job once it has ended."""
        *_, job = self.watch(id)
        return job

    def cancel(self, id: str) -> Job:
        return parsed(Job, self.send("POST", f"{_path(id)}/cancel"))

    def rerun(self, id: str) -> Job:
        """A new job with the same picture and question, on the current model."""
        return parsed(Job, self.send("POST", f"{_path(id)}/rerun"))

    def erase(self, id: str) -> None:
        """Forget the picture, the question and everything found; the bare row stays."""
        self.send("DELETE", _path(id))

    def ask(
        self,
        id: str,
        text: str,
        *,
        lang: str | None = None,
        external: bool = True,
        idempotency_key: str | None = None,
    ) -> Job:
        """Ask again about a job that has succeeded; the message is a job itself, to watch or wait for."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        body = {"text": text, "lang": lang, "external": external}
        return parsed(Job, self.send("POST", f"{_path(id)}/messages", json=body, headers=headers))

    def messages(self, id: str) -> tuple[Job, ...]:
        """What was asked again about a job, the oldest first."""
        return tuple(parsed(JobList, self.send("GET", f"{_path(id)}/messages")).items)

    def review(
        self,
        id: str,
        verdict: Literal["agree", "disagree"],
        *,
        label: str | None = None,
        note: str | None = None,
    ) -> Review:
        """Say whether the findings are right, and if not, which label is."""
        body = {"verdict": verdict, "label": label, "note": note}
        return parsed(Review, self.send("POST", f"{_path(id)}/review", json=body))

    def reviews(self, id: str) -> tuple[Review, ...]:
        """What was said of a job's findings, the newest first."""
        return tuple(parsed(ReviewList, self.send("GET", f"{_path(id)}/reviews")).items)

    def agreement(self, pipeline: str | None = None) -> tuple[AgreementInfo, ...]:
        """How often reviews agree with what was found, by label and by network, the most reviewed first."""
        params = {"pipeline": pipeline} if pipeline else {}
        return tuple(parsed(AgreementList, self.send("GET", "/v1/agreement", params=params)).items)

    def usage(self, month: str | None = None) -> Usage:
        """What language models took for your jobs in a month such as 2026-11, by default this one."""
        return parsed(Usage, self.send("GET", "/v1/usage", params={"month": month} if month else {}))

    def report(self, id: str) -> dict[str, Any]:
        """The job as a FHIR R4 DiagnosticReport."""
        found: dict[str, Any] = self.send("GET", f"{_path(id)}/report.fhir.json").json()
        return found

    def about(self) -> About:
        """What this server is, its limits, and which language model sees what is asked."""
        return parsed(About, self.send("GET", "/v1/about"))

    def artifact(self, id: str, name: str) -> bytes:
        return self.send("GET", f"{_path(id)}/artifacts/{checked_name(name, 'an artifact')}").content

    def pipelines(self) -> tuple[PipelineInfo, ...]:
        """What this server can be asked, and why not what it cannot."""
        return tuple(parsed(PipelineList, self.send("GET", "/v1/pipelines")).items)

    def pipeline(self, name: str) -> PipelineDetail:
        """One pipeline with its model card: thresholds, measured figures, data, licence."""
        path = f"/v1/pipelines/{checked_name(name, 'a pipeline')}"
        return parsed(PipelineDetail, self.send("GET", path))

    def list(
        self,
        *,
        status: str | None = None,
        pipeline: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        q: str | None = None,
        reviewed: bool | None = None,
        order: Literal["newest", "oldest"] = "newest",
        page: int = 50,
    ) -> Iterator[Job]:
        """Every job that matches, fetched `page` at a time as they are asked for."""
        wanted = {
            "status": status, "pipeline": pipeline, "q": q, "limit": page, "order": order,
            "reviewed": None if reviewed is None else str(reviewed).lower(),
            "created_after": created_after and created_after.isoformat(),
            "created_before": created_before and created_before.isoformat(),
        }  # fmt: skip
        params = {name: value for name, value in wanted.items() if value is not None}
        while True:
            found = parsed(JobList, self.send("GET", "/v1/jobs", params=params))
            yield from found.items
            if found.next is None:
                return
            params["cursor"] = found.next


def _path(id: str) -> str:
    return f"/v1/jobs/{checked_name(id, 'a job id')}"
