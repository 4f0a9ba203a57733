"""Sends what the OpenAPI document allows, and what it forbids, and holds every answer against the document.

python -m tests.fuzzing [CASES]   every check of schemathesis, on a server that asks for keys

CASES are shared evenly by all operations, of which some have but one: of 12,000, the default, 10,500 are sent.
"""

import base64
import itertools
import logging
import random
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import schemathesis
from flask import Flask
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import negative_data_rejection
from schemathesis.transport.serialization import Binary

from api.app import create_app
from api.services import Services
from migrations import upgrade
from shared import batches, jobs, keys, logs, pauses, uploads
from shared.ids import new_id
from shared.job_types import NewArtifact, NewJob, NewWebhook
from shared.settings import Settings
from tests.api.batching import pictures, zipped
from tests.api.driving import JPEG, Worker, write_model
from tests.servers import Redis
from tests.serving import serve

OWNER = "fuzz"
ARCHIVE = zipped(pictures(2))
PAUSED = {"pipeline": "scalp", "lane": "bulk"}  # none of the jobs here wait for it
# What no schema can say: that bytes are a picture, that a body site is the pipeline's, that an offset is the upload's.
BY_CONTENT = {
    "GET /v1/jobs": [400],  # which text is a cursor
    "GET /v1/batches": [400],
    "GET /v1/batches/{batch_id}/rejected": [400],
    "POST /v1/jobs/{job_id}/review": [400],  # which labels a pipeline has
    "POST /v1/requeue": [400],  # which moment was within the last 24 hours
    "POST /v1/jobs": [400, 413, 415, 422],
    "POST /v1/batches": [400, 411, 413, 415, 422],
    "PATCH /v1/uploads/{upload_id}": [400, 413, 415, 423, 460],
    "POST /v1/uploads/{upload_id}": [400, 413, 415, 423, 460],
    "POST /v1/uploads": [400, 413, 415, 460],
    "DELETE /v1/uploads/{upload_id}": [],
    "POST /v1/session": [],
}
schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
schemathesis.openapi.format(
    "job-cursor", st.builds(lambda: base64.urlsafe_b64encode(new_id().encode()).decode())
)
schemathesis.openapi.format(
    "entry-cursor", st.integers(0, 10**8).map(lambda n: base64.urlsafe_b64encode(str(n).encode()).decode())
)


@dataclass
class Report:
    """What came of it."""

    url: str = ""
    cases: int = 0
    statuses: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    examples: dict[str, str] = field(default_factory=dict)
    breaks: Counter[str] = field(default_factory=Counter)

    @property
    def errors(self) -> int:
        return sum(n for seen in self.statuses.values() for status, n in seen.items() if status >= 500)

    def share(self, operation: str) -> float:
        """Of all cases of an operation, those that were answered with 2xx."""
        seen = self.statuses[operation]
        return sum(n for status, n in seen.items() if status < 300) / max(1, seen.total())

    def __str__(self) -> str:
        rows = [
            f"  {self.share(name):4.0%} 2xx  {name}  {dict(seen)}" for name, seen in self.statuses.items()
        ]
        broken = [f"  {n} x {text}" for text, n in self.breaks.most_common()]
        head = (
            f"{self.cases} cases, {self.errors} answers of 5xx, {self.breaks.total()} breaks of the contract"
        )
        return "\n".join([head, *rows, *broken])


class Things:
    """Makes what operations are about, fresh for each case, since many of them end it."""

    def __init__(self, rooms: Services) -> None:
        self._rooms, self._worker = rooms, Worker(rooms.db)
        self._ended = [self._job(ended=True) for _ in range(3)]
        self._batch = self.batch()

    def ids(self, label: str) -> dict[str, str]:
        method, path = label.split(" ", 1)
        found = {"name": "image" if "artifacts" in path else "skin"}
        if "{job_id}" in path:
            changes = method != "GET" and not path.endswith(("rerun", "deliveries", "review"))
            # A message is for a job that has succeeded and that nobody asks about at the moment.
            asks = method == "POST" and path.endswith("messages")
            found["job_id"] = self._job(ended=asks) if changes else random.choice(self._ended)
        if "{batch_id}" in path:
            found["batch_id"] = self._batch if method == "GET" else self.batch()
        if "{upload_id}" in path:
            found["upload_id"] = self._upload()
        if "{lane}" in path:
            found |= self._pause() if method == "DELETE" else PAUSED
        return found

    def _job(self, *, ended: bool = False) -> str:
        job_id, size = new_id(), len(JPEG)
        self._rooms.storage.put(f"{job_id}/image", JPEG)
        new = NewJob(
            id=job_id, owner=OWNER, pipeline="skin", question="?", lang="en", stage="vision", answered=True,
            artifacts=(NewArtifact("image", "image/jpeg", "0" * 64, size),), media_type="image/jpeg", sha256="0" * 64,
            size_bytes=size, width=60, height=45, webhook=NewWebhook("https://example.org/", False),
        )  # fmt: skip
        assert jobs.create(self._rooms.db, new, 30)
        if ended:
            self._worker.finish(job_id)
        return job_id

    def batch(self) -> str:
        new = batches.NewBatch(id=new_id(), owner=OWNER, media_type="application/zip")
        assert batches.create(self._rooms.db, new, 30)
        return new.id

    def _pause(self) -> dict[str, str]:
        pauses.add(self._rooms.db, **PAUSED, note=None)
        return PAUSED

    def _upload(self) -> str:

        upload_id = new_id()
        uploads.create(
            self._rooms.db, upload_id, owner=OWNER, length=100, filename=None, client_metadata=None, keep_s=600,
            most=10**9,
        )  # fmt: skip
        return upload_id


def made_real(case: Case, label: str, things: Things, key: str) -> None:
    """Ids that exist, a picture that can be decoded, an archive that can be read."""
    wanted = things.ids(label)
    for name in case.path_parameters or {}:
        case.path_parameters[name] = wanted[name]
    if label == "POST /v1/jobs" and isinstance(case.body, dict):
        case.body = {"image": Binary(JPEG), "question": str(case.body.get("question", ""))}
    if label == "POST /v1/session":
        case.body = {"key": key}
    if label == "POST /v1/batches" and isinstance(case.body, dict):
        case.body = {"archive": Binary(ARCHIVE)}
    if label == "PATCH /v1/uploads/{upload_id}":
        case.headers["Upload-Offset"], case.body = "0", Binary(b"some bytes")
        case.headers.pop("Upload-Checksum", None)
    if label == "POST /v1/uploads/{upload_id}":
        case.headers["X-HTTP-Method-Override"] = "DELETE"
    if label == "POST /v1/uploads":
        case.headers["Upload-Length"] = "100"
        case.headers.pop("Upload-Metadata", None)


def fuzz(app: Flask, key: str, cases: int, *, start: int = 0) -> Report:
    """About `cases` cases, shared evenly by all operations; a quarter breaks the document, half is about real things."""
    server = serve(app)  # not in memory: results are streamed and closed
    report, things = Report(f"http://127.0.0.1:{server.port}"), Things(app.extensions["medq"])
    schema = schemathesis.openapi.from_url(f"{report.url}/openapi.json", config=_config())
    operations = [result.ok() for result in schema.get_all_operations()]
    each = max(2, -(-cases // len(operations)))
    send = _sender(report, things, key)
    for operation in operations:
        _run(operation, each - each // 4, GenerationMode.POSITIVE, start, send)
        _run(operation, each // 4, GenerationMode.NEGATIVE, start, send)
    server.shutdown()
    server.server_close()
    return report


def _config() -> SchemathesisConfig:
    """Every check, and for some operations what a valid request may also be told."""
    told = {
        "positive_data_acceptance": ["2xx", "3xx", "401", "403", "404", "409", "429"],
        "negative_data_rejection": ["400", "401", "403", "404", "405", "406", "409", "412", "415", "422"],
    }
    return SchemathesisConfig.from_dict(
        {
            "operations": [
                {
                    "include-name": name,
                    "checks": {
                        check: {"expected-statuses": usual + [str(one) for one in also]}
                        for check, usual in told.items()
                    },
                }
                for name, also in BY_CONTENT.items()
            ]
        }
    )


def _sender(report: Report, things: Things, key: str) -> Callable[[Case], None]:
    headers = {"Authorization": f"Bearer {key}"}
    turn = itertools.cycle((True, True, False))

    def send(case: Case) -> None:
        label = case.operation.label
        valid = case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE
        if valid and next(turn):
            made_real(case, label, things, key)
        if isinstance((case.query or {}).get("wait"), int | float) and case.query["wait"] > 0:
            case.query["wait"] = min(0.01, case.query["wait"])  # it may wait for a minute, and so it would
        response = case.call(base_url=report.url, headers=headers)
        report.cases += 1
        report.statuses[label][response.status_code] += 1
        try:
            # Schemathesis takes a body in which bytes were replaced for invalid; it is as valid as before.
            excluded = [negative_data_rejection] if valid else []
            case.validate_response(response, headers=headers, excluded_checks=excluded)
        except FailureGroup as group:
            for failure in group.exceptions:
                text = str(failure).splitlines()[0]
                report.breaks[f"{label}: {type(failure).__name__}, {text} ({response.status_code})"] += 1
                report.examples.setdefault(
                    f"{label} {type(failure).__name__}", f"{failure}\n{case.as_curl_command()}"[:1500]
                )

    return send


def _run(operation: Any, number: int, mode: GenerationMode, start: int, send: Callable[[Case], None]) -> None:
    if number < 1:
        return
    wide = settings(
        max_examples=number, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck),
        database=None,
    )  # fmt: skip
    with suppress(Unsatisfiable), _tolerated():  # nothing of it can be wrong
        seed(start)(wide(given(operation.as_strategy(generation_mode=mode))(send)))()


@contextmanager
def _tolerated() -> Iterator[None]:
    """Schemathesis 4.32 cannot always make a wrong body out of one that is nothing but bytes."""
    try:
        yield
    except ValueError as error:
        if str(error) != "Unsupported type: 'Binary'":
            raise


@contextmanager
def served(folder: Path, **changed: Any) -> Iterator[tuple[Flask, str]]:
    """An app on files of its own, and a key that may do everything."""
    write_model(folder / "models" / "skin")
    chosen = Settings(
        data_dir=str(folder / "var"), models_dir=str(folder / "models"), auth="keys", key_per_minute=1_000_000,
        max_uploads=10_000, webhook_secret="0123456789abcdef" * 2,
    )  # fmt: skip
    chosen = replace(chosen, **changed)
    chosen.data_path.mkdir(exist_ok=True)
    upgrade(chosen.sqlalchemy_url)
    rooms = Services.open(chosen)
    try:
        yield create_app(chosen, rooms), keys.create(rooms.db, OWNER, keys.SCOPES)[1]
    finally:
        rooms.close()


def main() -> None:
    cases = int(sys.argv[1]) if len(sys.argv) > 1 else 12_000
    start = random.randrange(2**32)
    logs.configure("ERROR", "json", "fuzz")
    logging.getLogger("werkzeug").setLevel("ERROR")
    redis = Redis().start()
    with (
        tempfile.TemporaryDirectory(prefix="medq-fuzz-") as folder,
        served(Path(folder), broker_url=redis.url) as (app, key),
    ):
        report = fuzz(app, key, cases, start=start)
    redis.close()
    print(f"seed {start}\n{report}")
    for name, text in report.examples.items():
        print(f"\n{name}\n{text}")
    rarely = [name for name in report.statuses if report.share(name) < 0.2]
    sys.exit(bool(report.errors or report.breaks or rarely))


if __name__ == "__main__":
    main()
