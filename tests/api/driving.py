"""Drives the API in tests: sends what clients send, moves jobs as workers do."""

import hashlib
import io
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse, encode_multipart

from api.services import Services
from api.waiting import Watch
from shared import jobs
from shared.cards import Architecture, ModelCard, Preprocess, save_card
from shared.catalog import PIPELINES
from shared.database import Database
from shared.job_types import Claim, Outcome
from shared.lifecycle import Event
from shared.settings import Settings

ONE_DATABASE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

PATIENCE_S = 60.0  # with what only hangs when something is broken

FINDINGS = [
    {"label": "mel", "name": "Melanoma", "probability": 0.81, "above_threshold": True},
    {"label": "nv", "name": "Melanocytic nevi", "probability": 0.19, "above_threshold": False},
]
ANSWER = {
    "text": "It may be a melanoma.",
    "source": "reference",
    "urgency": "within_days",
    "next_step": "See a dermatologist.",
    "prompt": {"name": "findings", "sha256": "0" * 64},
}


def jpeg(width: int = 60, height: int = 45, shade: int = 120) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (shade, 80, 60)).save(out, "JPEG")
    return out.getvalue()


JPEG = jpeg()


def write_model(folder: Path, pipeline: str = "skin") -> None:
    """A card as training writes it, of a pipeline's first head, beside bytes that have its hash."""
    folder.mkdir(parents=True)
    weights = b"weights"
    (folder / "weights.safetensors").write_bytes(weights)
    head = PIPELINES[pipeline].heads[0]
    codes = tuple(label.code for label in head.labels)
    card = ModelCard(
        name=head.weights,
        version="test",
        head=head.kind,
        architecture=Architecture(name="tf_efficientnet_lite0"),
        preprocess=Preprocess(
            size_px=224,
            crop="whole" if head.kind == "segment" else "center_square",
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        ),
        labels=codes,
        grades=tuple(grade.code for grade in head.grades),
        thresholds=dict.fromkeys(codes, 0.5) if head.kind == "classify" else {},
        smallest_area=dict.fromkeys(codes[1:], 0.01) if head.kind == "segment" else {},
        temperature=1.0,
        largest_microbatch=32,
        data="none",
        licence="none",
        training={},
        weights_dtype="float16",
        sha256=hashlib.sha256(weights).hexdigest(),
    )
    save_card(card, folder)


def post(
    client: FlaskClient,
    image: bytes | None = JPEG,
    filename: str = "mole.jpg",
    headers: dict[str, str] | None = None,
    **fields: str,
) -> TestResponse:
    """A submit; the body is made in memory, since the client's own way leaves temporary files open."""
    values: dict[str, Any] = dict(fields)
    if image is not None:
        quoted = filename.replace("\\", "\\\\").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
        values["image"] = FileStorage(io.BytesIO(image), quoted)
    boundary, body = encode_multipart(values)
    content_type = f"multipart/form-data; boundary={boundary}"
    return client.post("/v1/jobs", data=body, headers=headers, content_type=content_type)


def get(client: FlaskClient, job_id: str, query: str = "", **headers: str) -> Any:
    return client.get(f"/v1/jobs/{job_id}{query}", headers=headers)


def submitted(client: FlaskClient, **fields: Any) -> dict[str, Any]:
    response = post(client, **fields)
    assert response.status_code == 202, response.text
    found: dict[str, Any] = response.get_json()
    return found


def assert_problem(
    response: TestResponse, status: int, slug: str, pointer: str | None = None
) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.mimetype == "application/problem+json"
    body: dict[str, Any] = json.loads(response.data)
    assert body["type"] == f"/problems/{slug}"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    if pointer is not None:
        assert pointer in [error["pointer"] for error in body["errors"]]
    return body


@dataclass(frozen=True)
class Worker:
    """Moves jobs as workers do, by the same functions."""

    db: Database

    def claim(self, job_id: str, stage: str = "vision") -> Claim:
        claim = jobs.claim(self.db, [job_id], stage, "test@here", lease_s=30, limit_s=60)
        assert len(claim.jobs) == 1
        return claim

    def write(self, job_id: str, claim: Claim, event: Event, **found: Any) -> int:
        outcome = Outcome(job_id, claim.id, event, **found)
        return jobs.record(self.db, [outcome], max_attempts=3, redispatch_s=30)[job_id]

    def finish_vision(self, job_id: str) -> int:
        claim = self.claim(job_id)
        return self.write(job_id, claim, Event.ADVANCE, values={"findings": FINDINGS}, stage="answer")

    def finish(self, job_id: str) -> int:
        self.finish_vision(job_id)
        claim = self.claim(job_id, "answer")
        return self.write(job_id, claim, Event.FINISH, values={"answer": ANSWER})


def blobs(settings: Settings) -> list[Path]:
    return [path for path in Path(settings.storage_location).rglob("*") if path.is_file()]


class later:  # noqa: N801, it reads as a word at the call
    """Run something in a thread; `result` is what it answered."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._answer: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._answer = self._work()
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "it hangs"
        if self._error:
            raise self._error
        return self._answer


class Waits:
    """The waits of clients in this process. Unless `timed`, only news and a stop end them, and never their time."""

    def __init__(self) -> None:
        self.timed = False
        self.woken: list[bool] = []  # of each wait that ended, whether by news
        self._begun = 0
        self._change = threading.Condition()

    def of(self, wait: Callable[..., bool], watch: Watch, seen: int, timeout_s: float) -> bool:
        with self._change:
            self._begun += 1
            self._change.notify_all()
        woken = wait(watch, seen, timeout_s if self.timed else 3600.0)
        self.woken.append(woken)
        return woken

    def begun(self, number: int = 1) -> None:
        """Wait until so many have begun."""
        with self._change:
            assert self._change.wait_for(lambda: self._begun >= number, PATIENCE_S)


def version_of(claim: Claim) -> int:
    return claim.jobs[0].version


def listening(rooms: Services) -> None:
    """Wait until the process hears hints: the first wait starts the thread that listens."""
    rooms.waiters.start()
    deadline = time.monotonic() + PATIENCE_S
    with rooms.waiters.watch("probe") as watch:
        while not watch.wait(0, 0.02):
            assert time.monotonic() < deadline
            rooms.hints.publish({"probe": 1})
