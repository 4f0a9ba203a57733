"""The whole system at twice its capacity for minutes: what it accepts, what it refuses, and whether memory stays flat.

    python -m tests.bench.soak [--minutes 10] [--pollers 500] [--waiters 200]

A network that costs nothing, so that the system itself is the limit. Jobs arrive whether earlier ones have ended or
not. Pollers ask about jobs every two seconds, waiters hold a long-poll each. Exits with 1 if an accepted job did not
succeed, or if a process grew by more than 5 % after the first fifth of the time.
"""

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console
from sqlalchemy import func, select

from deploy.run import System, running
from shared.database import connect
from shared.settings import Settings
from shared.tables import JobRow
from tests.bench.vision import drawn_pictures
from tests.processes import component
from tests.servers import free_port
from tests.tiny import tiny_model

WARM_S = 15.0  # of measuring the capacity
CLIENTS = 32  # meanwhile
POLL_S, WAIT_S = 2.0, 20
SAMPLE_S = 2.0
GROWTH = 0.05
LONGEST_QUEUE = 300


@dataclass
class Crowd:
    """Everybody who talks to the server."""

    http: httpx.AsyncClient
    picture: bytes
    answers: Counter[str] = field(default_factory=Counter)  # by what was asked, and the status
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=500))
    pauses: list[int] = field(default_factory=list)  # Retry-After of 429
    late: list[float] = field(default_factory=list)  # milliseconds of a POST

    async def submit(self) -> str | None:
        began = time.perf_counter()
        answer = await self._send("POST", "/v1/jobs", files={"image": ("a.jpg", self.picture)})
        self.late.append(1000 * (time.perf_counter() - began))
        if answer is None:
            return None
        if answer.status_code == 429:
            self.pauses.append(int(answer.headers["Retry-After"]))
        if answer.status_code != 202:
            return None
        job_id: str = answer.json()["id"]
        self.recent.append(job_id)
        return job_id

    async def to_its_end(self, until: float) -> int:
        """One job after the other; how many ended."""
        done = 0
        while time.monotonic() < until:
            if (job_id := await self.submit()) is None:
                await asyncio.sleep(0.2)
                continue
            while time.monotonic() < until:
                answer = await self._send("GET", f"/v1/jobs/{job_id}?wait=5")
                if answer is not None and answer.is_success and answer.json()["completed_at"]:
                    done += 1
                    break
        return done

    async def poll(self, until: float) -> None:
        while time.monotonic() < until:
            await asyncio.sleep(POLL_S * random.uniform(0.5, 1.5))
            if self.recent:
                await self._send("GET", f"/v1/jobs/{random.choice(self.recent)}")

    async def hold(self, until: float) -> None:
        while time.monotonic() < until:
            if not self.recent:
                await asyncio.sleep(1)
                continue
            answer = await self._send("GET", f"/v1/jobs/{self.recent[-1]}?wait={WAIT_S}")
            if answer is None or answer.status_code == 503:
                await asyncio.sleep(1)

    async def arrive(self, per_s: float, until: float) -> None:
        """Whether the server keeps up or not."""
        under_way: set[asyncio.Task[Any]] = set()
        while time.monotonic() < until:
            task = asyncio.create_task(self.submit())
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            await asyncio.sleep(random.expovariate(per_s))
        await asyncio.gather(*under_way)

    async def _send(self, method: str, path: str, **more: Any) -> httpx.Response | None:
        what = f"{method} {'and wait' if 'wait=' in path else ''}".strip()
        try:
            answer = await self.http.request(method, path, **more)
        except httpx.TransportError as error:
            self.answers[f"{what}: {type(error).__name__}"] += 1
            return None
        self.answers[f"{what}: {answer.status_code}"] += 1
        return answer


async def watch(system: System, until: float) -> dict[str, list[int]]:
    """Resident bytes of every process, every two seconds, by what it is and its id."""
    found: dict[str, list[int]] = {}
    while time.monotonic() < until:
        for child in psutil.Process(system.supervisor.pid).children(recursive=True):
            try:
                name = f"{component(child.cmdline())} {child.pid}"
                found.setdefault(name, []).append(child.memory_info().rss)
            except psutil.NoSuchProcess:
                continue
        await asyncio.sleep(SAMPLE_S)
    return found


def fifths(samples: list[int]) -> list[float]:
    """Medians of the five parts of the time, in the samples' unit."""
    length = max(1, len(samples) // 5)
    return [
        statistics.median(samples[start * length : (start + 1) * length] or samples[-1:])
        for start in range(5)
    ]


async def soak(system: System, options: argparse.Namespace, console: Console) -> bool:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=system.url, timeout=60, limits=limits) as http:
        crowd = Crowd(http, drawn_pictures(1)[0])
        until = time.monotonic() + WARM_S
        done = await asyncio.gather(*(crowd.to_its_end(until) for _ in range(CLIENTS)))
        capacity = sum(done) / WARM_S
        console.print(
            f"  capacity {capacity:.1f} jobs/s by {CLIENTS} clients; now {2 * capacity:.1f}/s arrive"
        )
        crowd.answers.clear()
        crowd.late.clear()
        until = time.monotonic() + 60 * options.minutes
        everybody: list[Coroutine[Any, Any, Any]] = [watch(system, until), crowd.arrive(2 * capacity, until)]
        everybody += [crowd.poll(until) for _ in range(options.pollers)]
        everybody += [crowd.hold(until) for _ in range(options.waiters)]
        memory, *_ = await asyncio.gather(*everybody)
    for what, number in sorted(crowd.answers.items()):
        console.print(f"  {what:<28} {number:>8,}")
    if crowd.pauses:
        console.print(f"  Retry-After of 429: median {statistics.median(crowd.pauses):.0f} s")
    console.print(f"  POST: p50 {statistics.median(crowd.late):.0f} ms, slowest {max(crowd.late):.0f} ms")
    flat = True
    for name, samples in sorted(memory.items()):
        medians = fifths(samples)
        growth = medians[-1] / medians[1] - 1  # the first is warm-up
        flat &= len(samples) > 5 and growth < GROWTH
        parts = " ".join(f"{median / 2**20:4.0f}" for median in medians)
        console.print(f"  {name:<18} {parts}  at most {max(samples) / 2**20:4.0f} MB, growth {growth:+.1%}")
    return flat


def unfinished(settings: Settings, patience_s: float) -> Counter[str]:
    """Jobs by status, once none waits any more or patience is at its end."""
    db, until = connect(settings.sqlalchemy_url), time.monotonic() + patience_s
    query = select(JobRow.status, func.count()).group_by(JobRow.status)
    while True:
        found = Counter({row[0]: row[1] for row in db.read(lambda s: s.execute(query).all())})
        if not found["queued"] + found["running"] or time.monotonic() > until:
            db.close()
            return found
        time.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--pollers", type=int, default=500)
    parser.add_argument("--waiters", type=int, default=200)
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="medq-") as scratch:
        tiny_model(Path(scratch) / "models")
        settings = replace(
            Settings(),
            data_dir=str(Path(scratch) / "var"),
            models_dir=str(Path(scratch) / "models"),
            port=free_port(),
            flower_port=free_port(),
            max_waiting=LONGEST_QUEUE,
            api_threads=2 * options.waiters + 64,  # half of them may wait
        )
        with running(settings) as system:
            console.print(
                f"[bold]Soak of {options.minutes:g} minutes[/bold], {options.pollers} pollers, {options.waiters} waiters"
            )
            flat = asyncio.run(soak(system, options, console))
            ended = unfinished(settings, 120)
    console.print(
        f"  jobs: {', '.join(f'{number:,} {status}' for status, number in ended.items() if number)}"
    )
    sys.exit(0 if flat and set(+ended) == {"succeeded"} else 1)


if __name__ == "__main__":
    main()
