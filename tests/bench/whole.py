"""The whole embedded system: latency of a job whose network costs nothing, and CPU by component."""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
from rich.console import Console

from api.client import Client
from deploy.run import System, running
from shared.settings import Settings
from tests.bench.vision import drawn_pictures
from tests.processes import component
from tests.servers import free_port
from tests.tiny import tiny_model

JOBS = 200
CLIENTS = 16


def cpu_by_component(system: System) -> dict[str, float]:
    """CPU seconds so far of every process below the process manager, summed by what it is."""
    spent: dict[str, float] = {}
    for child in psutil.Process(system.supervisor.pid).children(recursive=True):
        name = component(child.cmdline())
        spent[name] = spent.get(name, 0.0) + sum(child.cpu_times()[:2])
    return spent


def latencies(client: Client, pictures: list[bytes]) -> list[float]:
    """Milliseconds from POST to `succeeded`, one job after the other, by long-poll."""
    found = []
    for data in pictures:
        began = time.perf_counter()
        job = client.submit(data, filename="drawn.jpg", question="What is this?")
        while job.status not in ("succeeded", "failed"):
            job = client.get(job.id, wait=20)
        assert job.status == "succeeded", job.error
        found.append(1000 * (time.perf_counter() - began))
    return found


def bench(console: Console, scratch: Path) -> None:
    tiny_model(scratch / "models")
    settings = replace(
        Settings(),
        data_dir=str(scratch / "whole"),
        models_dir=str(scratch / "models"),
        port=free_port(),
        flower_port=free_port(),
    )
    pictures = drawn_pictures(JOBS)
    with running(settings) as system, Client(system.url) as client:
        latencies(client, pictures[:20])  # warm
        single = latencies(client, pictures)
        before, began = cpu_by_component(system), time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(lambda data: latencies(client, [data]), pictures))
        seconds = time.perf_counter() - began
        spent = cpu_by_component(system)
    cuts = statistics.quantiles(single, n=100)
    console.print(f"[bold]A job whose network costs nothing[/bold], POST to succeeded, {JOBS} in a row")
    console.print(f"  p50 {cuts[49]:.1f} ms   p95 {cuts[94]:.1f} ms   max {max(single):.1f} ms")
    console.print(
        f"[bold]CPU per job by component[/bold], {JOBS} jobs by {CLIENTS} clients, {JOBS / seconds:.0f}/s"
    )
    for name in sorted(spent):
        console.print(f"  {name:<8} {1000 * (spent[name] - before.get(name, 0.0)) / JOBS:6.2f} ms")
