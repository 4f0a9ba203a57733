"""What the same work costs on a table of a million ended jobs, over what it costs on an empty one.

    python -m tests.bench.table --database sqlite|mariadb [--rows 1000000]

Both tables hold the same small batch, which the work is done on. Rounds on the two are interleaved, and the fastest of
each counts, since other programs only ever add to it. Takes minutes.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient
from rich.console import Console
from sqlalchemy import insert

from api.app import create_app
from api.services import EXTENSION, Services
from migrations import upgrade
from shared import batches, jobs, window
from shared.batches import NewBatch
from shared.database import Database
from shared.ids import entry_id, new_id
from shared.job_types import NewArtifact, NewJob, Outcome
from shared.jobs import ARTIFACTS, ATTEMPTS, JOBS
from shared.lifecycle import Event
from shared.settings import Settings
from shared.tables import BatchRow
from tests.servers import MariaDB, Redis
from tests.tiny import tiny_model
from workers.sweeper import Sweeper

CHUNK = 5_000
BATCH = 1_000  # jobs of the batch that is looked at, and of each of the others
REPEATS = 60
IMAGE = NewArtifact("image", "image/jpeg", "0" * 64, 20_000)
FINDINGS = [{"label": "nv", "name": "Melanocytic nevi", "probability": 0.9, "above_threshold": True}] * 7
YEAR_US = 365 * 24 * 3600 * 10**6


@dataclass
class Side:
    """A database with the API on it."""

    settings: Settings
    rooms: Services
    client: FlaskClient
    batch_id: str = ""

    @property
    def db(self) -> Database:
        return self.rooms.db


def ended(number: int, batch_id: str, now: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A job of the last year with its two attempts; one of a hundred failed."""
    created, good = now - YEAR_US + number * 10, number % 100 > 0
    row = {
        **{"id": entry_id(batch_id, number % BATCH), "batch_id": batch_id, "entry": number % BATCH},
        **{
            "pipeline": "skin",
            "question": f"Question {number}: what is this?",
            "lang": "en",
            "answered": True,
        },
        **{"external": True, "status": "succeeded" if good else "failed", "stage": "answer", "lane": "bulk"},
        **{"version": 5, "attempt": 2, "failures": 0, "lost": 0, "dispatches": 1, "not_before": created},
        **{"due_at": created, "created_at": created, "started_at": created, "completed_at": created + 10**6},
        **{
            "filename": f"{number}.jpg",
            "media_type": "image/jpeg",
            "size_bytes": 20_000,
            "findings": FINDINGS,
        },
    }
    times = {"started_at": created, "ended_at": created + 10**5, "worker": "w", "claim_id": new_id()}
    attempts = [
        {"job_id": row["id"], "number": n, "stage": stage, "outcome": outcome} | times
        for n, stage, outcome in ((1, "vision", "advance"), (2, "answer", "finish"))
    ]
    return row, attempts


def fill(db: Database, count: int, console: Console) -> None:
    now = time.time_ns() // 1000
    began = time.monotonic()
    for start in range(0, count, CHUNK):
        rows, attempts = [], []
        for number in range(start, min(start + CHUNK, count)):
            if number % BATCH == 0:
                batch_id = new_id()
                db.write(lambda s, id=batch_id: s.execute(insert(BatchRow).values(**_batch(id, now))))
            row, tried = ended(number, batch_id, now)
            rows.append(row)
            attempts += tried
        artifacts = [{"job_id": row["id"]} | vars(IMAGE) for row in rows]
        db.write(lambda s, r=rows: s.connection().execute(insert(JOBS), r))
        db.write(lambda s, a=attempts: s.connection().execute(insert(ATTEMPTS), a))
        db.write(lambda s, a=artifacts: s.connection().execute(insert(ARTIFACTS), a))
    console.print(f"  {count:,} jobs made in {time.monotonic() - began:.0f} s")


def _batch(batch_id: str, now: int) -> dict[str, Any]:
    times = dict.fromkeys(("created_at", "due_at", "read_at", "completed_at"), now - YEAR_US)
    return {
        "id": batch_id,
        "status": "completed",
        "defaults": {},
        "entries": BATCH,
        "accepted": BATCH,
    } | times


def work_on(side: Side) -> None:
    """The batch that is looked at: a running one, all of it in line."""
    side.batch_id = new_id()
    batches.create(side.db, NewBatch(side.batch_id), 3600)
    row = batches.claim(side.db, side.batch_id, lease_s=3600, max_attempts=3)
    assert row
    assert row.claim_id
    new = [
        replace(a_job("bulk"), id=entry_id(side.batch_id, n), batch_id=side.batch_id, entry=n)
        for n in range(BATCH)
    ]
    batches.accept(side.db, side.batch_id, row.claim_id, new, [], BATCH)
    batches.end_reading(side.db, side.batch_id, row.claim_id, None)


def a_job(lane: str) -> NewJob:
    return NewJob(new_id(), "skin", "What is this?", "en", "vision", True, lane=lane, artifacts=(IMAGE,))


def operations(side: Side) -> dict[str, Callable[[], object]]:
    """Each is run many times; what it changes, it changes back."""
    db, client = side.db, side.client
    one = a_job("interactive")
    jobs.create(db, one, 3600)
    sweeper = Sweeper(db, side.rooms.storage, side.rooms.dispatcher, side.rooms.hints, side.settings)

    def get(path: str) -> Callable[[], object]:
        def look() -> None:
            answer = client.get(path)
            assert answer.status_code == 200, answer.text

        return look

    def submit() -> None:
        new = a_job("interactive")
        jobs.create(db, new, 3600)
        jobs.cancel(db, new.id)

    def claim_and_record() -> None:
        claim = jobs.claim(db, [one.id], "vision", "w", lease_s=30, limit_s=30)
        assert claim.jobs
        jobs.record(db, [Outcome(one.id, claim.id, Event.RELEASE)], max_attempts=3, redispatch_s=3600)

    def bulk() -> None:
        for ids in window.fill(db, "vision", "skin", 4, 3600):
            claim = jobs.claim(db, ids, "vision", "w", lease_s=30, limit_s=30)
            back = [Outcome(job.id, claim.id, Event.RELEASE) for job in claim.jobs]
            jobs.record(db, back, max_attempts=3, redispatch_s=3600)

    def metrics() -> None:
        for collector in list(side.rooms.metrics._registry._collector_to_names):
            if hasattr(collector, "_until"):
                collector._until = 0.0
        get("/metrics")()

    return {
        "submit": submit,
        "get": get(f"/v1/jobs/{one.id}"),
        "list, newest": get("/v1/jobs?limit=50"),
        "list, a status": get("/v1/jobs?limit=50&status=queued"),
        "list, long ago": get("/v1/jobs?limit=50&created_before=2001-01-01T00:00:00Z"),
        "list, words": get("/v1/jobs?limit=50&q=nowhere"),
        "list, of a batch": get(f"/v1/jobs?limit=50&batch_id={side.batch_id}"),
        "claim and record": claim_and_record,
        "bulk window, 4 x 64": bulk,
        "counts of a batch": get(f"/v1/batches/{side.batch_id}"),
        "a sweeper's round": sweeper.sweep,
        "metrics": metrics,
    }


@contextmanager
def sides(database: str, scratch: Path) -> Iterator[tuple[Side, Side]]:
    """An empty table and one to be filled, on the same server."""
    with ExitStack() as stack:
        redis = Redis()
        stack.callback(redis.close)
        redis.start()
        server = None
        if database == "mariadb":
            server = MariaDB()
            stack.callback(server.close)
            server.start()
        tiny_model(scratch / "models")
        made = []
        for name in ("empty", "full"):
            settings = replace(
                Settings(),
                data_dir=str(scratch / name),
                models_dir=str(scratch / "models"),
                broker_url=redis.url,
                database_url=server.create(name) if server else "",
            )
            upgrade(settings.sqlalchemy_url)
            rooms = Services.open(settings)
            stack.callback(rooms.close)
            app = create_app(settings, rooms)
            assert app.extensions[EXTENSION] is rooms
            made.append(Side(settings, rooms, app.test_client()))
        yield made[0], made[1]


def timed(work: Callable[[], object]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


def compare(console: Console, empty: Side, full: Side) -> None:
    for side in (empty, full):
        work_on(side)
    here, there = operations(empty), operations(full)
    console.print(f"  {'':<20} {'empty, ms':>10} {'full, ms':>10} {'ratio':>6}")
    for name, work in here.items():
        pairs = [(timed(work), timed(there[name])) for _ in range(REPEATS)]
        one, two = (min(values) for values in zip(*pairs, strict=True))
        console.print(f"  {name:<20} {one:>10.2f} {two:>10.2f} {two / one:>6.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.table", description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "mariadb"), default="sqlite")
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    console = Console()
    with (
        tempfile.TemporaryDirectory(prefix="medq-") as scratch,
        sides(options.database, Path(scratch)) as (empty, full),
    ):
        console.print(f"[bold]A table of {options.rows:,} jobs[/bold], {options.database}")
        fill(full.db, options.rows, console)
        compare(console, empty, full)


if __name__ == "__main__":
    main()
