"""A person's job beside a batch of 10,000 pictures, against one beside other people who keep the device as busy.

    python -m tests.bench.fairness [--pictures 10000] [--probes 100]

The bound: twice the p95 beside people, plus one microbatch of the batch. Only as many of the pictures are worked on
as the probes last. Exits with 1 past the bound.
"""

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import psutil
from rich.console import Console

from migrations import upgrade
from shared import batches
from shared.cards import load_card
from shared.settings import ROOT, Settings
from tests.bench import batch
from tests.bench.batch import Bench, crowd, p95
from tests.bench.vision import await_line, drawn_pictures, first_head, process
from tests.servers import Redis

MODELS = ROOT / "workers/models"


def beside_a_batch(room: Bench, pictures: list[bytes], count: int) -> tuple[list[float], float]:
    """Milliseconds of the probes, and pictures per second of the batch meanwhile."""
    batch_id = room.make(pictures, count)
    room.start()
    began = time.perf_counter()
    found = room.probes(pictures, lambda: not room.over(batch_id))
    seconds = time.perf_counter() - began
    ended = room.db.read(lambda session: batches.counts(session, [batch_id]))[batch_id].ended
    assert not room.over(batch_id), "the batch was over before the probes were"
    batches.cancel(room.db, batch_id)
    while batches.cancel_jobs(room.db, batch_id):
        pass
    return found, ended / seconds


def busy(pid: int, since: tuple[float, float]) -> float:
    """Cores that the worker used since then."""
    spent = sum(psutil.Process(pid).cpu_times()[:2]) - since[0]
    return spent / (time.perf_counter() - since[1])


def mark(pid: int) -> tuple[float, float]:
    return sum(psutil.Process(pid).cpu_times()[:2]), time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.fairness", description=__doc__)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--probes", type=int, default=100)
    options = parser.parse_args()
    batch.PROBES = options.probes
    console, pictures, server = Console(), drawn_pictures(320), Redis().start()
    with tempfile.TemporaryDirectory(prefix="medq-") as scratch:
        models = first_head("skin", MODELS, Path(scratch)) or MODELS
        settings = replace(
            Settings(), data_dir=str(Path(scratch) / "var"), broker_url=server.url, models_dir=str(models)
        )
        upgrade(settings.sqlalchemy_url)
        with process(["workers.app", "vision"], settings.as_environment()) as worker:
            await_line(worker, '"ready"')
            room = Bench(settings, worker.pid)
            room.batch(pictures, 128)  # warm
            since = mark(worker.pid)
            people = crowd(room, pictures)
            cores_people, since = busy(worker.pid, since), mark(worker.pid)
            beside, per_s = beside_a_batch(room, pictures, options.pictures)
            cores_batch = busy(worker.pid, since)
            room.close()
    server.close()
    microbatch = 1000 * load_card(MODELS / "skin").largest_microbatch / per_s
    bound = 2 * p95(people) + microbatch
    console.print(f"[bold]A person's job at the vision stage, ms[/bold], {options.probes} probes each")
    for name, values, cores in (
        (f"beside {batch.CLIENTS} people", people, cores_people),
        (f"beside a batch of {options.pictures:,}", beside, cores_batch),
    ):
        console.print(
            f"  {name:<26} p50 {statistics.median(values):7.1f}   p95 {p95(values):7.1f}   worker {cores:.2f} cores"
        )
    console.print(
        f"  bound {bound:.0f} ms: 2 x {p95(people):.0f} and a microbatch of {microbatch:.0f} ms ({per_s:.0f} pictures/s)"
    )
    sys.exit(0 if p95(beside) <= bound else 1)


if __name__ == "__main__":
    main()
