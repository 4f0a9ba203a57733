"""The claims that a worker process holds for a stage: taken, kept alive by a heartbeat, and let go."""

import os
import socket
import threading
import time
from collections.abc import Sequence

import structlog

from shared import jobs
from shared.database import Database
from shared.job_types import Claim
from shared.settings import Settings

log = structlog.get_logger(__name__)


class Held:
    """One thread renews the leases of all claims, and learns which jobs are no longer ours."""

    def __init__(self, db: Database, stage: str, settings: Settings) -> None:
        self._db, self._stage, self._settings = db, stage, settings
        self._worker = f"{stage}@{socket.gethostname()}:{os.getpid()}"
        self._jobs: dict[str, set[str]] = {}  # claim id -> job ids that the database says are still ours
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._heart.start()

    def claim(self, ids: Sequence[str]) -> Claim:
        """Those of the ids that wait for this stage become ours; there may be none."""
        claim = jobs.claim(
            self._db,
            ids,
            self._stage,
            self._worker,
            lease_s=self._settings.lease_s,
            limit_s=self._settings.stage_limit_s(self._stage),
        )
        if len(claim.jobs) < len(ids):
            log.info("not_claimed", stage=self._stage, jobs=len(ids) - len(claim.jobs))
        if claim.jobs:
            with self._lock:
                self._jobs[claim.id] = {job.id for job in claim.jobs}
        return claim

    def lost(self, claim: Claim, job_id: str) -> bool:
        """Whether somebody canceled the job or took it from us, as far as the last heartbeat knows."""
        return job_id not in self._jobs.get(claim.id, ())

    def let_go(self, claim: Claim) -> None:
        """These jobs are recorded, or nobody will run them; others of the same claim may go on."""
        with self._lock:
            left = self._jobs.get(claim.id, set())
            left.difference_update(job.id for job in claim.jobs)
            if not left:
                self._jobs.pop(claim.id, None)

    def _beat(self) -> None:
        """Renew leases, and learn which jobs were canceled or lost meanwhile."""
        while not self._stopped.wait(min(self._settings.lease_s / 3, 1.0)):
            with self._lock:
                claims = list(self._jobs)
            try:
                held = jobs.heartbeat(self._db, claims, self._settings.lease_s)
            except Exception:
                log.exception("heartbeat_failed", claims=len(claims))
                continue
            with self._lock:
                for claim_id in claims:
                    if claim_id in self._jobs:
                        self._jobs[claim_id].intersection_update(held.get(claim_id, ()))

    def left_after(self, wait_s: float) -> list[tuple[str, str]]:
        """Claim and job of each that is still held when `wait_s` are over; none once all are let go."""
        until = time.monotonic() + wait_s
        while self._jobs and time.monotonic() < until:
            time.sleep(0.02)
        with self._lock:
            return [(claim, job) for claim, ids in self._jobs.items() for job in ids]

    def close(self) -> None:
        self._stopped.set()
