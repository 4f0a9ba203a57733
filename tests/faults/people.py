"""People who use the system while it fails: they send pictures and archives, and insist until they are accepted."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx

from shared.ids import new_id
from tests.bench.vision import drawn_pictures
from tests.packing import packed

PEOPLE = 6  # who send a job and wait for its end, again and again
ENTRIES = 12  # of each archive
PATIENCE_S = 300.0  # longer than any fault, also on a busy machine
PICTURES = drawn_pictures(8)
# What a fault may answer with; anything else is a fault of ours.
PASSING = (409, 423, 429, 503)


@dataclass
class Work:
    """What was promised while one fault went on. Every job is told by the name in its question."""

    name: str
    since: str = field(default_factory=new_id)  # ids of its jobs are larger
    accepted: set[str] = field(default_factory=set)
    over: threading.Event = field(default_factory=threading.Event)
    _numbers: Iterator[int] = field(default_factory=count)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def new_name(self) -> str:
        with self._lock:
            return f"{self.name}/{next(self._numbers)}"

    def promised(self, names: Iterable[str]) -> None:
        with self._lock:
            self.accepted.update(names)


class People:
    """All that is known of the system here is its URL."""

    def __init__(self, url: str) -> None:
        # One for all: each new one would read every certificate authority that it may trust.
        self._http = httpx.Client(base_url=url, timeout=30)

    def close(self) -> None:
        self._http.close()

    @contextmanager
    def at_work(self, work: Work, least: int, *, archives: bool = True) -> Iterator[None]:
        """Everybody is busy while the block runs, and until `least` jobs were accepted.

        Leaving it waits until each of them has ended. Raises: TimeoutError
        """
        with ThreadPoolExecutor(PEOPLE + 1) as pool:
            busy = [pool.submit(self._again, self.ask, work) for _ in range(PEOPLE)]
            if archives:
                busy.append(pool.submit(self._again, self.send_archive, work))
            try:
                _await(lambda: len(work.accepted) > PEOPLE, busy)
                yield
                _await(lambda: len(work.accepted) >= least, busy)
            finally:
                work.over.set()
        for one in busy:
            one.result()

    def _again(self, what: Callable[[Work], object], work: Work) -> None:
        while not work.over.is_set():
            what(work)

    def ask(self, work: Work, words: str = "", picture: bytes | None = None) -> dict[str, Any]:
        """One job from POST to its end."""
        return self.ended(self.leave(work, words, picture)["urls"]["self"])

    def leave(self, work: Work, words: str = "", picture: bytes | None = None) -> dict[str, Any]:
        """One job as it is accepted."""
        name = work.new_name()
        question = {"question": f"Question {name} {words}: is it dangerous?"}
        job = self.accepted("/v1/jobs", question, {"image": ("a.jpg", picture or PICTURES[0])})
        work.promised([name])
        return job

    def ask_many(
        self, work: Work, number: int, words: str = "", picture: bytes | None = None
    ) -> dict[str, Any]:
        """Jobs by their names, a few at a time, each to its end."""
        with ThreadPoolExecutor(PEOPLE) as pool:
            jobs = list(pool.map(lambda _: self.ask(work, words, picture), range(number)))
        return {job["question"].split()[1]: job for job in jobs}

    def send_archive(self, work: Work) -> dict[str, Any]:
        """One batch from POST to its end."""
        names = [f"{work.new_name()}e" for _ in range(ENTRIES)]
        batch = self.accepted("/v1/batches", {}, {"archive": ("study.zip", study(names))})
        work.promised(names)
        return self.ended(batch["urls"]["self"])

    def accepted(self, path: str, data: dict[str, str], files: dict[str, Any]) -> dict[str, Any]:
        """What the server made of a request that is repeated under one key until it is accepted."""
        headers = {"Idempotency-Key": new_id()}
        return self._insist(lambda: self._http.post(path, data=data, files=files, headers=headers))

    def ended(self, path: str) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            found = self._insist(lambda: self._http.get(path, params={"wait": 5}))
            if found["completed_at"]:
                return found
        raise TimeoutError(f"{path} did not end within {PATIENCE_S:.0f} s")

    def _insist(self, send: Callable[[], httpx.Response]) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            try:
                answer = send()
            except httpx.TransportError:
                time.sleep(0.1)
                continue
            if answer.is_success:
                found: dict[str, Any] = answer.json()
                return found
            assert answer.status_code in PASSING, f"{answer.request.url}: {answer.status_code} {answer.text}"
            time.sleep(0.1)
        raise TimeoutError(f"not accepted within {PATIENCE_S:.0f} s")


def study(names: list[str]) -> bytes:
    """A zip with a picture for each name, and a manifest that asks a question about each."""
    files = {f"{number}.jpg": PICTURES[number % len(PICTURES)] for number in range(len(names))}
    lines = [f"{number}.jpg,Question {name}: is it dangerous?" for number, name in enumerate(names)]
    return packed("zip", files | {"manifest.csv": "\n".join(["filename,question", *lines]).encode()})


def _await(condition: Callable[[], bool], busy: list["Future[None]"]) -> None:
    """Until the condition holds, or somebody has given up."""
    until = time.monotonic() + PATIENCE_S
    while not condition():
        if any(one.done() for one in busy) or time.monotonic() > until:
            return
        time.sleep(0.02)
