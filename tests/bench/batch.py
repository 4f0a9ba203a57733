"""A batch through the vision worker over the raw loop, and what people's jobs cost meanwhile."""

import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
from rich.console import Console
from sqlalchemy import select

from migrations import upgrade
from shared import batches
from shared.batches import NewBatch
from shared.database import Database, connect
from shared.ids import entry_id, new_id
from shared.job_types import NewJob
from shared.queue import Dispatcher, Hints
from shared.settings import Settings
from shared.storage import storage_of
from shared.tables import BatchRow, JobRow
from tests.bench.vision import await_line, drawn_pictures, first_head, process, queued_jobs, raw
from tests.servers import Redis
from workers.refill import refill

IMAGES = 1_280
LONG_BATCH = 3_200  # outlasts the probes
ROUNDS = 3
PROBES = 40
CLIENTS = 24  # of single jobs, enough to keep the device as busy as a batch does
GROUP = 256


class Bench:
    """One vision worker, and the database and broker around it."""

    def __init__(self, settings: Settings, pid: int) -> None:
        self.settings, self.pid = settings, pid
        self.db: Database = connect(settings.sqlalchemy_url)
        self.dispatcher = Dispatcher(settings)
        self.hints = Hints(settings)

    def make(self, pictures: list[bytes], count: int) -> str:
        """A batch whose archive was read: rows and blobs, nothing sent yet."""
        storage, batch_id = storage_of(self.settings), new_id()
        assert batches.create(self.db, NewBatch(batch_id), 3600)
        row = batches.claim(self.db, batch_id, lease_s=3600, max_attempts=3)
        assert row
        assert row.claim_id
        for start in range(0, count, GROUP):
            numbers = range(start, min(start + GROUP, count))
            new = [
                NewJob(
                    **{"id": entry_id(batch_id, n), "pipeline": "skin", "question": "", "lang": "en"},
                    **{
                        "stage": "vision",
                        "answered": False,
                        "lane": "bulk",
                        "batch_id": batch_id,
                        "entry": n,
                    },
                )
                for n in numbers
            ]
            storage.put_many({f"{one.id}/image": pictures[one.entry % len(pictures)] for one in new})  # type: ignore[operator]
            batches.accept(self.db, batch_id, row.claim_id, new, [], numbers[-1] + 1)
        assert batches.end_reading(self.db, batch_id, row.claim_id, None)
        return batch_id

    def start(self) -> None:
        refill(self.db, self.dispatcher, self.settings, "vision", "skin")

    def over(self, batch_id: str) -> bool:
        return self.db.read(lambda s: s.get_one(BatchRow, batch_id)).completed_at is not None

    def batch(self, pictures: list[bytes], count: int) -> tuple[float, float]:
        """Images/s from dispatch to the batch's end, and CPU milliseconds of the worker per image."""
        batch_id = self.make(pictures, count)
        before, began = sum(psutil.Process(self.pid).cpu_times()[:2]), time.perf_counter()
        self.start()
        while not self.over(batch_id):
            time.sleep(0.01)
        seconds = time.perf_counter() - began
        spent = sum(psutil.Process(self.pid).cpu_times()[:2]) - before
        return count / seconds, 1000 * spent / count

    def single(self, data: bytes) -> float:
        """Milliseconds of one person's job from its row to its result, looked for every 2 ms."""
        began = time.perf_counter()
        (job_id,) = queued_jobs(self.db, self.settings, [data], lane="interactive")
        self.dispatcher.dispatch([job_id], "vision", "skin", "interactive")
        while (
            self.db.read(lambda s: s.scalar(select(JobRow.status).where(JobRow.id == job_id))) != "succeeded"
        ):
            time.sleep(0.002)
        return 1000 * (time.perf_counter() - began)

    def probes(self, pictures: list[bytes], go_on: Callable[[], bool] = lambda: True) -> list[float]:
        found: list[float] = []
        while len(found) < PROBES and go_on():
            found.append(self.single(pictures[len(found) % len(pictures)]))
            time.sleep(0.03)
        return found

    def close(self) -> None:
        self.dispatcher.close()
        self.hints.close()
        self.db.close()


def crowd(room: Bench, pictures: list[bytes]) -> list[float]:
    """Probes while other people's single jobs keep the device busy."""
    stop = threading.Event()

    def client(number: int) -> None:
        while not stop.is_set():
            room.single(pictures[number % len(pictures)])

    with ThreadPoolExecutor(CLIENTS) as pool:
        for number in range(CLIENTS):
            pool.submit(client, number)
        time.sleep(1)
        found = room.probes(pictures)
        stop.set()
    return found


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[18] if len(values) > 1 else float("nan")


def bench(console: Console, models: Path, scratch: Path) -> None:
    scratch.mkdir(parents=True, exist_ok=True)
    models = first_head("skin", models, scratch) or models
    pictures = drawn_pictures(640)
    folder = scratch / "pictures"
    folder.mkdir()
    for number, data in enumerate(pictures):
        (folder / f"{number:05}").write_bytes(data)
    server = Redis().start()
    settings = replace(
        Settings(), data_dir=str(scratch / "var"), broker_url=server.url, models_dir=str(models)
    )
    upgrade(settings.sqlalchemy_url)
    cores = os.cpu_count() or 1
    loops = ["served serial", f"served {cores}", f"served {2 * cores}"]
    rows: list[dict[str, float]] = []
    try:
        with (
            process(["tests.bench.loops", str(models), str(folder), "skin"], {}) as loop,
            process(["workers.app", "vision"], settings.as_environment()) as worker,
        ):
            await_line(loop, "ready")
            await_line(worker, '"ready"')
            room = Bench(settings, worker.pid)
            room.batch(pictures, 128)  # warm
            for _ in range(ROUNDS):
                row = {f"raw {name}": raw(loop, name) for name in loops}
                row["batch"], row["CPU ms"] = room.batch(pictures, IMAGES)
                row["ratio"] = row["batch"] / max(row[f"raw {name}"] for name in loops)
                rows.append(row)
            alone = room.probes(pictures)
            batch_id = room.make(pictures, LONG_BATCH)
            room.start()
            beside = room.probes(pictures, lambda: not room.over(batch_id))
            batches.cancel(room.db, batch_id)
            while batches.cancel_jobs(room.db, batch_id):
                pass
            crowded = crowd(room, pictures)
            room.close()
    finally:
        server.close()
    console.print(f"[bold]A batch over the raw loop[/bold], {IMAGES:,} pictures, {ROUNDS} rounds")
    for name in rows[0]:
        values = [row[name] for row in rows]
        console.print(
            f"  {name:<10} median {statistics.median(values):8.2f}   min {min(values):8.2f}   max {max(values):8.2f}"
        )
    console.print(f"[bold]A person's job at the vision stage, ms[/bold], {PROBES} probes, p95 (median)")
    for name, values in (("idle", alone), ("beside a batch", beside), (f"beside {CLIENTS} people", crowded)):
        console.print(
            f"  {name:<18} {p95(values):8.1f} ({statistics.median(values):.1f}), {len(values)} probes"
        )


if __name__ == "__main__":
    bench(Console(), Path(sys.argv[1]), Path(sys.argv[2]))
