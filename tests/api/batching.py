"""Drives batches in tests: archives, what sends them, and the parts that workers play by their own functions."""

import io
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask.testing import FlaskClient
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse, encode_multipart

from api.services import Services
from shared import batches, jobs
from shared.batches import NewRejected
from shared.catalog import PIPELINES
from shared.errors import ServiceError
from shared.ids import new_id
from shared.job_types import NewJob, Outcome
from shared.lifecycle import Event
from shared.tables import JobRow
from tests.api.driving import jpeg
from workers.archive import Archives
from workers.refill import Refiller


def zipped(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(files: Mapping[str, bytes], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def pictures(number: int) -> dict[str, bytes]:
    return {f"{i:03d}.jpg": jpeg(shade=10 + i) for i in range(number)}


def post_batch(
    client: FlaskClient,
    archive: bytes | None = None,
    filename: str = "study.zip",
    headers: dict[str, str] | None = None,
    manifest: tuple[str, bytes] | None = None,
    **fields: str,
) -> TestResponse:
    values: dict[str, Any] = dict(fields)
    if manifest is not None:
        values["manifest"] = FileStorage(io.BytesIO(manifest[1]), manifest[0])
    if archive is not None:
        values["archive"] = FileStorage(io.BytesIO(archive), filename)
    boundary, body = encode_multipart(values)
    content_type = f"multipart/form-data; boundary={boundary}"
    return client.post("/v1/batches", data=body, headers=headers, content_type=content_type)


def accepted(client: FlaskClient, archive: bytes | None = None, **fields: Any) -> dict[str, Any]:
    response = post_batch(client, archive, **fields)
    assert response.status_code == 202, response.text
    found: dict[str, Any] = response.get_json()
    return found


@dataclass(frozen=True)
class Hands:
    """Does by hand what workers do with a batch, by the same functions."""

    rooms: Services

    def work(self, batch_id: str) -> None:
        """The archive stage, by the archive worker itself."""
        room = self.rooms
        refiller = Refiller(room.db, room.dispatcher, room.hints, room.settings)
        assert Archives(room.db, room.storage, room.hints, refiller, room.settings).message([batch_id]) == 1
        refiller.close()

    def read(
        self,
        batch_id: str,
        jobs_: Iterable[dict[str, Any]] = (),
        rejected: Sequence[NewRejected] = (),
        error: ServiceError | None = None,
    ) -> list[str]:
        """The archive stage: a job for each of `jobs_`, which says what is special about it; their ids."""
        room = self.rooms
        row = batches.claim(room.db, batch_id, lease_s=30, max_attempts=3)
        assert row is not None
        assert row.claim_id
        new = [_job(batch_id, entry, special) for entry, special in enumerate(jobs_)]
        batches.expect(room.db, batch_id, row.claim_id, len(new) + len(rejected))
        for start in range(0, len(new), 500):
            batches.accept(room.db, batch_id, row.claim_id, new[start : start + 500], (), start + 500)
        batches.accept(room.db, batch_id, row.claim_id, (), rejected, len(new) + len(rejected))
        assert batches.end_reading(room.db, batch_id, row.claim_id, error)
        return [job.id for job in new]

    def see(self, ids: Sequence[str], found: Callable[[int], dict[str, Any]]) -> None:
        """The vision stage; `found(i)` is what it writes to the i-th job, or its error."""
        for start in range(0, len(ids), 64):
            claim = jobs.claim(
                self.rooms.db, ids[start : start + 64], "vision", "test", lease_s=30, limit_s=60
            )
            outcomes = [_outcome(job, claim.id, found(start + i)) for i, job in enumerate(claim.jobs)]
            jobs.record(self.rooms.db, outcomes, max_attempts=3, redispatch_s=30)

    def settle(self, batch_id: str) -> None:
        assert batches.settle(self.rooms.db, [batch_id])


def _job(batch_id: str, entry: int, special: dict[str, Any]) -> NewJob:
    usual = {
        "id": new_id(), "pipeline": "skin", "question": "", "lang": "en", "stage": "vision", "answered": False,
        "lane": "bulk", "batch_id": batch_id, "entry": entry, "entry_name": f"pictures/{entry:05d}.jpg",
        "filename": f"{entry:05d}.jpg", "media_type": "image/jpeg", "sha256": f"{entry:064x}", "size_bytes": 1000,
        "width": 60, "height": 45,
    }  # fmt: skip
    return NewJob(**usual | special)


def _outcome(job: JobRow, claim_id: str, values: dict[str, Any]) -> Outcome:
    if error := values.get("error"):
        return Outcome(job.id, claim_id, Event.FAIL, error=error)
    artifacts = values.pop("artifacts", ())
    return Outcome(job.id, claim_id, Event.FINISH, values=values, artifacts=artifacts)


def findings(**probabilities: float) -> list[dict[str, Any]]:
    """As the vision stage writes them, the most probable first."""
    ordered = sorted(probabilities.items(), key=lambda pair: -pair[1])
    return [
        {
            "label": label,
            "name": PIPELINES["skin"].label(label).en,
            "probability": value,
            "above_threshold": value > 0.5,
        }
        for label, value in ordered
    ]
