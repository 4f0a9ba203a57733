"""The real API on a free port, and a worker's part played by hand, for tests of client and command line."""

import hashlib
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sqlalchemy import select

from api.app import create_app
from api.services import Services
from shared import batches, jobs
from shared.cards import Architecture, ModelCard, Preprocess, save_card
from shared.catalog import SKIN_LABELS
from shared.database import Database, connect
from shared.errors import ImageFailed
from shared.job_types import Claim, NewArtifact, Outcome
from shared.lifecycle import Event, Status
from shared.settings import Settings
from shared.tables import BatchRow, JobRow
from tests.serving import serve
from workers.archive import Archives
from workers.refill import Refiller

WEIGHTS = b"The API looks at the hash of these bytes and at nothing else."
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
PROBABILITIES = {"mel": 0.62, "nv": 0.31, "bkl": 0.04, "bcc": 0.01, "akiec": 0.01, "df": 0.006, "vasc": 0.004}
THRESHOLDS = {label.code: 0.25 for label in SKIN_LABELS}
URL = "https://www.cancer.gov/types/skin/patient/melanoma-treatment-pdq"
ANSWER: dict[str, Any] = {
    "text": "The picture suggests melanoma.\n\nShow it to a dermatologist.",
    "source": "reference",
    "urgency": "within_days",
    "department": "Dermatology",
    "next_step": "Show it to a dermatologist.",
    "cannot_tell": ["A picture does not show how the spot feels."],
    "citations": [
        {"id": "skin/mel/what", "title": "NCI: Melanoma", "quote": "Melanoma is a cancer.", "url": URL}
    ],
    "prompt": {"name": "findings", "sha256": "0" * 64},
}
WARNING = {"code": "no_language_model", "detail": "No language model was used."}


def picture(path: Path, colour: int = 120) -> Path:
    Image.fromarray(np.full((40, 60, 3), colour, np.uint8)).save(path, "JPEG")
    return path


def models(folder: Path) -> Path:
    """A folder in which the skin pipeline counts as trained."""
    target = folder / "skin"
    target.mkdir(parents=True)
    (target / "weights.safetensors").write_bytes(WEIGHTS)
    card = ModelCard(
        name="skin", version="test", head="classify", architecture=Architecture(name="none"),
        preprocess=Preprocess(size_px=32, mean=(0, 0, 0), std=(1, 1, 1)),
        labels=tuple(label.code for label in SKIN_LABELS), thresholds=THRESHOLDS, temperature=1.0,
        largest_microbatch=1, data="none", licence="none", training={}, weights_dtype="float32", sha256=SHA256,
    )  # fmt: skip
    save_card(card, target)
    return folder


def findings() -> list[dict[str, Any]]:
    names = {label.code: label.en for label in SKIN_LABELS}
    return [
        {
            "label": code,
            "name": names[code],
            "probability": value,
            "above_threshold": value > THRESHOLDS[code],
        }
        for code, value in PROBABILITIES.items()
    ]


class Live:
    """The real app behind a real socket; `work()` starts a thread that plays both workers."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.db: Database = connect(settings.sqlalchemy_url)
        self.answer, self.warnings, self.error = ANSWER, [WARNING], False
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def rooms(self) -> Services:
        found: Services = self._app.extensions["medq"]
        return found

    def start(self) -> None:
        """On the same port as before, if it ran before."""
        self._app = create_app(self.settings)
        self._server = serve(self._app, self.port)
        self.port = self._server.port

    def stop(self) -> None:
        self._app.extensions["medq"].close()
        self._server.shutdown()
        self._server.server_close()

    def close(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self.stop()
        self.db.close()

    def work(self, after: int = 1) -> None:
        """Play the workers from now on, once `after` jobs wait."""
        self._threads.append(threading.Thread(target=self._work, args=(after,)))
        self._threads[-1].start()

    def _work(self, after: int) -> None:
        started = False
        while not self._stopping.is_set():
            self.read_archives()
            waiting = self._waiting()
            started |= len(waiting) >= after
            for job_id in waiting if started else []:
                self.see(job_id)
                self.finish(job_id)
            for job_id in self._asked():
                self.finish(job_id)
            self.settle()
            time.sleep(0.02)

    def read_archives(self) -> None:
        """With the archive worker itself."""
        wanted = select(BatchRow.id).where(BatchRow.status == "receiving")
        if not (ids := list(self.db.read(lambda session: session.scalars(wanted).all()))):
            return
        rooms = self.rooms
        refiller = Refiller(self.db, rooms.dispatcher, rooms.hints, self.settings)
        Archives(self.db, rooms.storage, rooms.hints, refiller, self.settings).message(ids)
        refiller.close()

    def settle(self) -> None:
        """End the batches whose last job has ended, as the sweeper does."""
        batches.settle(self.db, batches.unsettled(self.db))

    def _waiting(self) -> list[str]:
        wanted = select(JobRow.id).where(JobRow.status == Status.QUEUED.value, JobRow.stage == "vision")
        return list(self.db.read(lambda session: session.scalars(wanted).all()))

    def _asked(self) -> list[str]:
        """Messages, which begin with the answer."""
        wanted = select(JobRow.id).where(JobRow.status == Status.QUEUED.value, JobRow.message_of.is_not(None))
        return list(self.db.read(lambda session: session.scalars(wanted).all()))

    def see(self, job_id: str, artifacts: tuple[NewArtifact, ...] = (), **found: Any) -> None:
        """The vision stage, with more columns if given; fails if the test wants it so."""
        model = {"name": "skin", "version": "test", "sha256": SHA256}
        values = {"findings": findings(), "model": model, "warnings": self.warnings} | found
        answered = select(JobRow.answered).where(JobRow.id == job_id)
        if self.error:
            self._record(job_id, "vision", Event.FAIL, {}, error=ImageFailed())
        elif self.db.read(lambda session: session.scalar(answered)):
            self._record(job_id, "vision", Event.ADVANCE, values, stage="answer", artifacts=artifacts)
        else:
            self._record(job_id, "vision", Event.FINISH, values)

    def finish(self, job_id: str, claim: Claim | None = None) -> None:
        """The answer stage, of a claim if it was taken before."""
        self._write(claim or self.claim(job_id, "answer"), Event.FINISH, {"answer": self.answer})

    def _record(self, job_id: str, at: str, event: Event, values: dict[str, Any], **more: Any) -> None:
        self._write(self.claim(job_id, at), event, values, **more)

    def claim(self, job_id: str, at: str) -> Claim:
        """Take a job as a worker does, and tell whoever waits."""
        claim = jobs.claim(self.db, [job_id], at, "test", lease_s=30, limit_s=60)
        self.rooms.hints.publish({job.id: job.version for job in claim.jobs})
        return claim

    def _write(self, claim: Claim, event: Event, values: dict[str, Any], **more: Any) -> None:
        outcomes = [Outcome(job.id, claim.id, event, values, **more) for job in claim.jobs]
        written = jobs.record(self.db, outcomes, max_attempts=3, redispatch_s=30)
        self.rooms.hints.publish(written)
