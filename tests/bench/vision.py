"""Images/s of the vision worker over the better raw loop, from messages of 32 ids and of one."""

import io
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from rich.console import Console
from sqlalchemy import func, select

from deploy.drawn import jpeg
from migrations import upgrade
from shared import jobs
from shared.catalog import PIPELINES
from shared.database import SECOND, Database, connect
from shared.ids import new_id
from shared.job_types import NewJob
from shared.queue import Dispatcher
from shared.settings import ROOT, Settings, environment_with
from shared.storage import storage_of
from shared.tables import JobRow
from tests.servers import Redis

IMAGES = 1_280  # some seconds a round, so that its first and last message weigh little
ROUNDS = 5


def drawn_pictures(count: int) -> list[bytes]:
    """JPEGs of the size and weight of HAM10000's at 600x450 (about 22 kB)."""
    pictures = []
    for seed in range(count):
        random = np.random.default_rng(seed)
        coarse = Image.fromarray(random.integers(90, 220, (45, 60, 3), dtype=np.uint8))
        file = io.BytesIO()
        coarse.resize((600, 450), Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
        pictures.append(file.getvalue())
    return pictures


def first_head(pipeline: str, models: Path, scratch: Path) -> Path | None:
    """A folder with the weights of the pipeline's first head only, so that no other works beside it.

    None where they are not installed.
    """
    name, folder = PIPELINES[pipeline].heads[0].weights, scratch / f"only-{pipeline}"
    if not (models / name / "card.json").is_file():
        return None
    shutil.copytree(models / name, folder / name, dirs_exist_ok=True)
    return folder


def drawn_lesions(count: int) -> list[bytes]:
    """As many JPEGs of 600x450, each with a drawn lesion that a network outlines; forty in turn."""
    some = [jpeg(seed) for seed in range(40)]
    return [some[number % len(some)] for number in range(count)]


def queued_jobs(
    db: Database, settings: Settings, pictures: list[bytes], lane: str = "interactive", pipeline: str = "skin"
) -> list[str]:
    """Rows and blobs as a submit leaves them, answer stage left out."""
    storage = storage_of(settings)
    ids = []
    for data in pictures:
        job = NewJob(
            id=new_id(), pipeline=pipeline, question="", lang="en", stage="vision", answered=False, lane=lane
        )
        storage.put(f"{job.id}/image", data)
        jobs.create(db, job, redispatch_s=3600)
        ids.append(job.id)
    return ids


@contextmanager
def process(arguments: list[str], variables: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    child = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=environment_with(variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield child
    finally:
        child.terminate()
        child.wait()


def await_line(child: "subprocess.Popen[str]", word: str) -> None:
    assert child.stdout
    for line in child.stdout:
        if word in line:
            return
    raise RuntimeError(f"{child.args} ended before it said {word!r}")


def raw(child: "subprocess.Popen[str]", name: str) -> float:
    assert child.stdin
    assert child.stdout
    child.stdin.write(name + "\n")
    child.stdin.flush()
    return float(child.stdout.readline())


def worked(
    db: Database, settings: Settings, pictures: list[bytes], size: int, pid: int, pipeline: str
) -> tuple[float, float]:
    """Images/s of the worker from a full queue to its last result, and its CPU milliseconds per image.

    The queue fills while the worker stands still, since dispatch is the API's work, and the end is read from the
    rows: asking for it all the time would take from the two cores what is to be measured.
    """
    ids = queued_jobs(db, settings, pictures, pipeline=pipeline)
    dispatcher, worker = Dispatcher(settings), psutil.Process(pid)
    worker.suspend()
    for start in range(0, len(ids), size):
        dispatcher.dispatch(ids[start : start + size], "vision", pipeline, "interactive")
    dispatcher.close()
    before, began = sum(worker.cpu_times()[:2]), time.time()
    worker.resume()
    ended = select(func.count(), func.max(JobRow.completed_at)).where(
        JobRow.id >= ids[0], JobRow.status == "succeeded"
    )
    while (row := db.read(lambda session: session.execute(ended).one()))[0] < len(ids):
        time.sleep(0.2)
    spent = sum(worker.cpu_times()[:2]) - before
    return len(ids) / (row[1] / SECOND - began), 1000 * spent / len(ids)


def bench(console: Console, models: Path, scratch: Path, pipeline: str = "skin") -> None:
    """Rounds are interleaved, since the machine's speed drifts; ratios are taken within a round."""
    only = first_head(pipeline, models, scratch)
    if only is None:
        console.print(f"[bold]Vision worker, {pipeline}[/bold]: there are no weights to measure with")
        return
    models, scratch = only, scratch / pipeline
    pictures = (drawn_lesions if pipeline == "lesion" else drawn_pictures)(IMAGES)
    folder = scratch / "pictures"
    folder.mkdir(parents=True)
    for number, data in enumerate(pictures):
        (folder / f"{number:05}").write_bytes(data)
    server = Redis().start()
    settings = replace(
        Settings(), data_dir=str(scratch / "var"), broker_url=server.url, models_dir=str(models)
    )
    upgrade(settings.sqlalchemy_url)
    db = connect(settings.sqlalchemy_url)
    cores = os.cpu_count() or 1
    hows = ["serial", str(cores), str(2 * cores)]
    rows: list[dict[str, float]] = []
    try:
        with (
            process(["tests.bench.loops", str(models), str(folder), pipeline], {}) as loop,
            process(["workers.app", "vision"], settings.as_environment()) as worker,
        ):
            await_line(loop, "ready")
            await_line(worker, '"ready"')
            worked(db, settings, pictures[:64], 32, worker.pid, pipeline)  # warm
            for _ in range(ROUNDS):
                row = {
                    f"raw {on} {how}": raw(loop, f"{on} {how}") for on in ("torch", "served") for how in hows
                }
                best = {on: max(row[f"raw {on} {how}"] for how in hows) for on in ("torch", "served")}
                row["of 32 ids"], row["CPU ms, 32 ids"] = worked(
                    db, settings, pictures, 32, worker.pid, pipeline
                )
                row["of one id"], row["CPU ms, one id"] = worked(
                    db, settings, pictures, 1, worker.pid, pipeline
                )
                row |= {
                    f"{name} over {on}": row[f"of {name}"] / best[on]
                    for name in ("32 ids", "one id")
                    for on in ("torch", "served")
                }
                rows.append(row)
    finally:
        db.close()
        server.close()
    console.print(
        f"[bold]Vision worker over the raw loop, {pipeline}[/bold], {len(pictures)} pictures, {ROUNDS} rounds"
    )
    for name in rows[0]:
        values = [row[name] for row in rows]
        console.print(
            f"  {name:<19} median {statistics.median(values):8.2f}   min {min(values):8.2f}   max {max(values):8.2f}"
        )
