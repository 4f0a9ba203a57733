"""The archive worker: entries/s over a bare loop, memory for ten gigabytes, and what a batch costs people."""

import hashlib
import io
import statistics
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
from PIL import Image
from rich.console import Console
from sqlalchemy import insert

from migrations import upgrade
from shared import batches, jobs
from shared.batches import NewBatch
from shared.database import Database, connect
from shared.ids import new_id
from shared.queue import Dispatcher
from shared.settings import ROOT, Settings
from shared.storage import storage_of
from shared.tables import BatchRow
from tests.bench.vision import await_line, drawn_pictures, process
from tests.servers import Redis
from tests.tiny import tiny_model

ENTRIES = 10_000
ROUNDS = 5
GROUP = 500  # rows that the bare loop inserts at a time
HAM10000 = ROOT.parent / "shared/data/skin/ham10000_images_200x150.zip"
# Below four megabytes an entry may unpack to any ratio: a picture, and zeros behind its end.
LARGE_ENTRIES, LARGE_BYTES = 2_600, 3_900_000


def bare(db: Database, path: Path) -> float:
    """Seconds to read the archive, hash every entry, read the picture's header and insert a row."""
    began = time.perf_counter()
    rows: list[dict[str, object]] = []

    def flush() -> None:
        if rows:
            db.write(lambda session: session.connection().execute(insert(jobs.JOBS), rows))
            rows.clear()

    with zipfile.ZipFile(path) as archive:
        for number, info in enumerate(archive.infolist()):
            data = archive.read(info)
            with Image.open(io.BytesIO(data)) as image:
                width, height = image.size
            rows.append(
                {
                    **{"id": new_id(), "pipeline": "skin", "question": "", "lang": "en", "answered": False},
                    **{"external": True, "status": "queued", "stage": "vision", "lane": "bulk"},
                    **{"not_before": 1, "due_at": 1, "created_at": 1, "media_type": "image/jpeg"},
                    **{"filename": info.filename, "sha256": hashlib.sha256(data).hexdigest()},
                    **{"size_bytes": len(data), "width": width, "height": height, "entry": number},
                }
            )
            if len(rows) == GROUP:
                flush()
        flush()
    return time.perf_counter() - began


def read(db: Database, settings: Settings, dispatcher: Dispatcher, path: Path) -> float:
    """Seconds from the last byte in storage to the last job row."""
    batch_id = store(settings, path)
    began = time.perf_counter()
    batches.create(db, NewBatch(batch_id, filename=path.name), 30)
    dispatcher.dispatch([batch_id], "archive", "all", "bulk")
    while (row := db.read(lambda s: s.get_one(BatchRow, batch_id))).status == "receiving":
        time.sleep(0.005)
    seconds = time.perf_counter() - began
    assert row.error_slug is None, row.error_detail
    assert row.rejected == 0
    return seconds


def store(settings: Settings, path: Path) -> str:
    batch_id = new_id()
    with path.open("rb") as file:
        storage_of(settings).append(f"{batch_id}/archive", 0, iter(lambda: file.read(2**20), b""))
    return batch_id


def packed(path: Path, pictures: list[bytes], count: int, pad_bytes: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number in range(count):
            data = pictures[number % len(pictures)]
            archive.writestr(f"{number:06}.jpg", data.ljust(pad_bytes, b"\0"))
    return path


@contextmanager
def worker(scratch: Path) -> "Iterator[tuple[Settings, Database, Dispatcher, subprocess.Popen[str]]]":
    """An archive worker with a Redis of its own, on SQLite; nothing consumes what it makes."""
    server = Redis().start()
    models = scratch / "models"
    tiny_model(models)
    settings = replace(
        Settings(), data_dir=str(scratch / "var"), broker_url=server.url, models_dir=str(models)
    )
    upgrade(settings.sqlalchemy_url)
    db, dispatcher = connect(settings.sqlalchemy_url), Dispatcher(settings)
    try:
        with process(["workers.app", "archive"], settings.as_environment()) as child:
            await_line(child, '"ready"')
            yield settings, db, dispatcher, child
    finally:
        dispatcher.close()
        db.close()
        server.close()


def bench_speed(console: Console, scratch: Path, name: str, path: Path) -> None:
    """Rounds are interleaved, since the machine's speed drifts; ratios are taken within a round."""
    scratch.mkdir(parents=True)
    url = f"sqlite:///{scratch / 'bare.sqlite3'}"
    upgrade(url)
    other = connect(url)
    loops, ours = [], []
    with worker(scratch) as (settings, db, dispatcher, _):
        read(db, settings, dispatcher, path)  # warm
        for _ in range(ROUNDS):
            loops.append(bare(other, path))
            ours.append(read(db, settings, dispatcher, path))
    other.close()
    with zipfile.ZipFile(path) as archive:
        count = len(archive.infolist())
    ratios = [bare_s / our_s for bare_s, our_s in zip(loops, ours, strict=True)]
    console.print(f"[bold]Archive worker over the bare loop[/bold], {count:,} entries, {name}")
    for title, values in (("bare loop, s", loops), ("worker, s", ours), ("ratio", ratios)):
        console.print(
            f"  {title:<14} median {statistics.median(values):6.2f}   min {min(values):6.2f}   max {max(values):6.2f}"
        )


def bench_memory(console: Console, scratch: Path) -> None:
    scratch.mkdir(parents=True)
    path = packed(scratch / "large.zip", drawn_pictures(8), LARGE_ENTRIES, LARGE_BYTES)
    with worker(scratch) as (settings, db, dispatcher, child):
        read(db, settings, dispatcher, packed(scratch / "small.zip", drawn_pictures(8), 8))
        idle = psutil.Process(child.pid).memory_info().rss
        peak_before = high_water(child.pid)
        seconds = read(db, settings, dispatcher, path)
        peak = high_water(child.pid)
    console.print(
        f"[bold]Memory of the archive worker[/bold], {LARGE_ENTRIES:,} entries, "
        f"{LARGE_ENTRIES * LARGE_BYTES / 1e9:.1f} GB, in {seconds:.0f} s"
    )
    console.print(
        f"  idle {idle / 2**20:.0f} MB   peak {peak / 2**20:.0f} MB   above idle {(peak - idle) / 2**20:.0f} MB"
        f"   (peak before: {peak_before / 2**20:.0f} MB)"
    )


def high_water(pid: int) -> int:
    """The most that was ever resident, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def bench(console: Console, scratch: Path) -> None:
    scratch.mkdir(parents=True, exist_ok=True)
    if HAM10000.exists():
        bench_speed(console, scratch / "ham", "200x150 pixels, 4 kB", HAM10000)
    drawn = packed(scratch / "drawn.zip", drawn_pictures(500), ENTRIES)
    bench_speed(console, scratch / "drawn", "600x450 pixels, 22 kB", drawn)
    bench_memory(console, scratch / "memory")


if __name__ == "__main__":
    bench(Console(), Path(sys.argv[1]))
