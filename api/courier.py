"""Sends webhooks: a thread of the API's that looks every second, and a few that wait for receivers."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import httpcore
import structlog
from sqlalchemy.exc import SQLAlchemyError
from standardwebhooks.webhooks import Webhook

from api import outbound
from api.lookup import load
from api.outbound import Allowed, Refused
from api.services import Services
from shared import webhooks
from shared.errors import NotFound
from shared.webhooks import Due, Try

LOOK_S = 1.0
THREADS = 8
LIMIT_S = 15.0  # one try, from the name's resolution to the answer's head
GONE = 410  # the receiver wants no more. Source: Standard Webhooks

log = structlog.get_logger(__name__)


class Courier:
    """One per process; two never send the same delivery at the same time."""

    def __init__(self, room: Services) -> None:
        self._room = room
        self._allowed = Allowed(room.settings.webhook_allow)
        self._stop = threading.Event()
        self._free = threading.BoundedSemaphore(THREADS)
        self._pool = ThreadPoolExecutor(THREADS, "webhook")
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """What is under way is sent again by another process, unless it ends in time."""
        self._stop.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            try:
                self.round()
            except SQLAlchemyError as error:
                log.warning("webhooks_wait", error=type(error).__name__)

    def round(self) -> None:
        """Make deliveries of what has happened, and hand those that are due to free threads."""
        webhooks.prepare(self._room.db)
        free = 0
        while free < THREADS and self._free.acquire(blocking=False):
            free += 1
        due = webhooks.claim(self._room.db, free) if free else []
        for _ in range(free - len(due)):
            self._free.release()
        for one in due:
            self._pool.submit(self._deliver, one)

    def _deliver(self, due: Due) -> None:
        try:
            self.deliver(due)
        except Exception:
            log.exception("webhook_failed", delivery_id=due.id)  # its lease ends, and it is tried again
        finally:
            self._free.release()

    def deliver(self, due: Due) -> None:
        """One try, written down whatever comes of it."""
        began = time.monotonic()
        try:
            body = load(self._room, due.job_id, due.owner).job.model_dump_json().encode()
        except NotFound:
            return  # erased for good
        status, error = self._send(due, body)
        went = Try(
            delivered=status is not None and 200 <= status < 300,
            status=status,
            error=error,
            took_s=time.monotonic() - began,
            final=status == GONE,
        )
        webhooks.note(self._room.db, due, went)
        self._room.metrics.tried(_outcome(due, went), went.took_s)
        log.info("webhook", job_id=due.job_id, delivery_id=due.id, status=status, error=error)

    def _send(self, due: Due, body: bytes) -> tuple[int | None, str | None]:
        """The receiver's status, or why there is none; errors are words of ours, never the receiver's."""
        now = datetime.now(UTC)
        secret = webhooks.secret_of(self._room.settings.webhook_secret, due.owner)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "MedQ",
            "webhook-id": due.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(secret).sign(due.id, now, body.decode()),
        }
        try:
            target = outbound.parse(due.url, self._allowed)
            return outbound.post(target, self._allowed, headers, body, LIMIT_S), None
        except Refused as error:
            return None, f"refused: the URL {error}"
        except httpcore.TimeoutException:
            return None, f"no answer within {LIMIT_S:.0f} s"
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            return None, f"not reached: {type(error).__name__}"


def _outcome(due: Due, went: Try) -> str:
    """As /metrics counts it."""
    if went.delivered:
        return "delivered"
    return "failed" if went.final or due.tries + 1 >= webhooks.TRIES else "again"
