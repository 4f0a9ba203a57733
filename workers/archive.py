"""The archive stage: an archive in storage to jobs and rejected entries, from wherever the last worker stopped."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from sqlalchemy.exc import OperationalError

from shared import batches
from shared.availability import Availability
from shared.database import Database
from shared.errors import BlobDamaged, BrokenArchive, NotFound, RequestError, StaleAttempt, StorageUnavailable
from shared.images import Limits
from shared.logs import bound
from shared.queue import Hints
from shared.settings import Settings
from shared.storage import Storage
from shared.tables import BatchRow
from workers.again import Again
from workers.digest import Digest
from workers.intake import Intake, Stopped
from workers.refill import Refiller
from workers.unpack import ArchiveLimits
from workers.unpacking import ARCHIVE, Unpacking

TRIES = 10  # claims that may be lost one after the other without a checkpoint between them

log = structlog.get_logger(__name__)


class Archives:
    """Reads batches that messages name. Two workers may get the same message: one of them claims the batch."""

    name = "archive"

    def __init__(
        self,
        db: Database,
        storage: Storage,
        hints: Hints,
        refiller: Refiller,
        settings: Settings,
    ) -> None:
        self._db, self._storage, self._settings = db, storage, settings
        self._hints, self._refiller = hints, refiller
        self._available = Availability(settings.models_path)
        self._stop = threading.Event()
        self._limits = ArchiveLimits(
            max_entries=settings.max_entries,
            max_unpacked_bytes=settings.max_unpacked_bytes,
            max_ratio=settings.max_ratio,
            max_entry_bytes=settings.max_upload_bytes,
        )

    def message(self, ids: list[str]) -> int:
        """Deal with one message; answers with the number of batches that were ours to read."""
        return sum(self._read(batch_id) for batch_id in ids)

    def stop(self) -> None:
        """Give back what is being read, at its next checkpoint."""
        self._stop.set()

    def _read(self, batch_id: str) -> bool:
        """The one try/except: what reading raises decides how the claim ends."""
        row = batches.claim(self._db, batch_id, lease_s=self._settings.lease_s, max_attempts=TRIES)
        if row is None or row.claim_id is None:
            log.info("nothing_to_claim", stage=self.name, batch_id=batch_id)
            return False
        with bound(batch_id=batch_id), self._leased(row) as lost, self._digesting(row) as digest:
            try:
                self._take_in(row, row.claim_id, lost, digest)
            except Stopped:
                batches.release(self._db, batch_id, row.claim_id)
                log.info("archive_released")
            except StaleAttempt:
                log.info("stale_attempt", stage=self.name)
            except RequestError as error:
                log.warning("archive_broken", error=error.slug, detail=error.detail)
                self._end(row, row.claim_id, error, digest)
            except BlobDamaged as error:
                log.error("archive_damaged", detail=error.detail)
                self._end(row, row.claim_id, BrokenArchive(error.detail), digest)
            except (StorageUnavailable, OperationalError) as error:
                log.warning("archive_postponed", error=type(error).__name__)
                batches.release(self._db, batch_id, row.claim_id, self._settings.redispatch_s)
            except Exception:
                # The lease runs out, and somebody tries again: a claim that ends so counts as lost.
                log.exception("unexpected_fault", stage=self.name)
        return True

    def _take_in(self, row: BatchRow, claim_id: str, lost: threading.Event, digest: Digest | None) -> None:
        intake = Intake(self._db, self._storage, self._hints, self._refiller, self._settings, row)
        limits = Limits(max_bytes=self._settings.max_upload_bytes, max_pixels=self._settings.max_pixels)
        if row.rerun_of:
            intake.run(Again(self._db, self._storage, row, self._available), self._stop, lost)
        else:
            with self._storage.open(f"{row.id}/{ARCHIVE}") as file:
                source = Unpacking(file, self._storage, row, self._limits, limits, self._available)
                intake.run(source, self._stop, lost)
        self._end(row, claim_id, None, digest)

    def _end(self, row: BatchRow, claim_id: str, error: RequestError | None, digest: Digest | None) -> None:
        if isinstance(error, NotFound):
            error = NotFound("The archive was erased before it was read.")
        sha256 = digest.result() if digest else row.sha256
        if not batches.end_reading(self._db, row.id, claim_id, error, sha256):
            log.info("stale_attempt", stage=self.name)
            return
        self._storage.erase(row.id)
        ended = batches.settle(self._db, [row.id])
        self._hints.publish(ended)
        log.info("archive_read", error=error.slug if error else None)

    @contextmanager
    def _digesting(self, row: BatchRow) -> Iterator[Digest | None]:
        """The sha256 of an archive that nobody has hashed so far."""
        if row.sha256 or row.rerun_of:
            yield None
            return
        digest = Digest(self._storage, f"{row.id}/{ARCHIVE}")
        try:
            yield digest
        finally:
            digest.close()

    @contextmanager
    def _leased(self, row: BatchRow) -> Iterator[threading.Event]:
        """Renews the lease meanwhile; the event is set when the batch is no longer ours."""
        lost, over = threading.Event(), threading.Event()

        def beat() -> None:
            while not over.wait(self._settings.lease_s / 3):
                try:
                    if not batches.heartbeat(self._db, row.id, row.claim_id or "", self._settings.lease_s):
                        lost.set()
                        return
                except Exception:
                    log.exception("heartbeat_failed", batch_id=row.id)

        thread = threading.Thread(target=beat, name="archive-heartbeat", daemon=True)
        thread.start()
        try:
            yield lost
        finally:
            over.set()
            thread.join()
