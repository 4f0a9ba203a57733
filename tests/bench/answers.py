"""What the answer stage adds to a bare streaming call, and 256 calls at once on one worker."""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from openai import OpenAI
from rich.console import Console
from sqlalchemy import func, select, update

from migrations import upgrade
from shared import jobs, messages, texts
from shared.database import Database, connect
from shared.ids import new_id
from shared.job_types import NewJob
from shared.lifecycle import TERMINAL
from shared.queue import Dispatcher, Hints
from shared.settings import Settings
from shared.tables import JobRow
from shared.text_files import NewText
from tests.bench.archive import high_water
from tests.bench.vision import await_line, process
from tests.retrieval.asked import leaflets
from tests.servers import Redis
from tests.workers.cases import CASES
from workers.answer import AnswerStage, case_of
from workers.attempt import Attempts
from workers.encoder import find_encoder
from workers.llm import OpenAICompatible
from workers.meter import Meter
from workers.prompt import Prompt, build_prompt
from workers.providers import make_providers
from workers.refill import Refiller
from workers.reply import response_format
from workers.shelf import Shelf
from workers.urgency import floor

ROUNDS = 200
CROWD = 256
READ_S = 60.0  # the longest that 44 passages may take
CROWD_S = 300.0  # a worker that has not answered the crowd by then has failed
QUESTION = "Will it become cancer?"


class Heard(Hints):
    """Hints that know when the broker had the first words of an answer."""

    first_ns = 0

    def keep_draft(self, job_id: str, attempt: int, text: str) -> None:
        super().keep_draft(job_id, attempt, text)
        self.first_ns = self.first_ns or time.monotonic_ns()


@contextmanager
def scripted(crowd: int) -> Iterator[str]:
    """The address of a server that streams to `crowd` calls together."""
    with process(["tests.bench.streaming", str(crowd)], {}) as child:
        assert child.stdout
        yield f"http://127.0.0.1:{child.stdout.readline().split()[1]}/v1"


def with_model(settings: Settings, url: str) -> Settings:
    return replace(
        settings, answers="openai", openai_api_key="none", openai_base_url=url, openai_model="scripted"
    )


def waiting_jobs(db: Database, count: int) -> list[str]:
    """Rows as the vision stage leaves them, each with a question."""
    ids = [new_id() for _ in range(count)]
    case = CASES["mel_clear"]
    for one in ids:
        asked = {"pipeline": "skin", "question": QUESTION, "lang": "en", "age": case["age"]}
        jobs.create(db, NewJob(id=one, stage="answer", answered=True, **asked), redispatch_s=3600)
    findings = [finding | {"name": "x"} for finding in case["findings"]]
    db.write(lambda session: session.execute(update(JobRow).values(findings=findings)))
    return ids


def milliseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


@dataclass
class Bench:
    """One call in four forms: by the package alone, by our client, by the stage, and as a message of the worker."""

    url: str
    settings: Settings
    db: Database
    attempts: Attempts
    stage: AnswerStage
    model: OpenAICompatible
    package: OpenAI
    heard: Heard

    def bare(self, prompt: Prompt) -> None:
        request: dict[str, Any] = {"messages": list(prompt.messages), "response_format": response_format()}
        stream = self.package.chat.completions.create(
            model="scripted", stream=True, stream_options={"include_usage": True}, **request
        )
        with stream:
            "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)

    def round(self, job_id: str) -> dict[str, float]:
        """Milliseconds of each form, and of what readers wait for."""
        row = self.db.read(lambda session: session.get_one(JobRow, job_id))
        case = case_of(row)
        prompt = build_prompt(case, lowest=floor(case))
        first: list[int] = []
        found = {
            "bare": milliseconds(lambda: self.bare(prompt)),
            "client": milliseconds(
                lambda: self.model.complete(prompt, on_delta=lambda _: first.append(time.monotonic_ns()))
            ),
            "token": (first[0] - self._stamps()["first"]) / 1e6,
            "stage": milliseconds(self.stage.begin(row, lambda: False)),
        }
        self.heard.first_ns = 0
        found["message"] = milliseconds(lambda: self.attempts.message([job_id]))
        found["words"] = (self.heard.first_ns - self._stamps()["end"]) / 1e6
        return found

    def _stamps(self) -> dict[str, int]:
        stamps: dict[str, int] = httpx.get(self.url).json()
        return stamps


@contextmanager
def opened(settings: Settings, url: str) -> Iterator[Bench]:
    """The answer worker's parts, put together as workers/app.py does."""
    with ExitStack() as closing:
        db = connect(settings.sqlalchemy_url)
        closing.callback(db.close)
        dispatcher, heard = Dispatcher(settings), Heard(settings)
        refiller = Refiller(db, dispatcher, heard, settings)
        encoder = find_encoder(settings.embeddings == "on")
        shelf = Shelf(db, encoder)
        if not shelf.wait(READ_S):
            raise RuntimeError(f"the added texts were not read after {READ_S:.0f} s")
        stage = AnswerStage(
            make_providers(settings),
            settings.max_attempts,
            heard,
            shelf=shelf,
            before=partial(messages.before, db),
            meter=Meter(db, 0),
            encoder=encoder,
        )
        attempts = Attempts(stage, db, dispatcher, heard, settings, refiller)
        closing.callback(refiller.close)
        closing.callback(attempts.close)
        model = OpenAICompatible(url, "none", "scripted")
        package = closing.enter_context(OpenAI(base_url=url, api_key="none", max_retries=0))
        yield Bench(url, settings, db, attempts, stage, model, package, heard)
        model.close()


def overhead(console: Console, settings: Settings, of: str) -> None:
    """Rounds are interleaved, since the machine's speed drifts; differences are taken within a round."""
    with scripted(1) as url, opened(with_model(settings, url), url) as bench:
        ids = waiting_jobs(bench.db, ROUNDS + 10)
        rounds = [bench.round(job_id) for job_id in ids][
            10:
        ]  # the first ones load what the others find loaded
    console.print(f"[bold]Answer stage over a bare streaming call[/bold], {of}, ms, {ROUNDS} rounds")
    line(console, "bare call", [row["bare"] for row in rounds])
    for name, text in (
        ("client", "added by our client"),
        ("stage", "by the stage"),
        ("message", "by a message, claim to commit"),
    ):
        line(console, text, [row[name] - row["bare"] for row in rounds])
    line(console, "a token, written to handed on", [row["token"] for row in rounds])
    line(console, "a reply's end to its first words shown", [row["words"] for row in rounds])


def add_leaflets(settings: Settings) -> None:
    """Those of tests/retrieval, as an operator would."""
    db = connect(settings.sqlalchemy_url)
    rows = [(passage, passage.sources[0]) for passage in leaflets()]
    texts.add(
        db,
        [
            NewText(f"{one.id}.md", "0" * 64, one.title, source.publisher, None, one.date, "en", (one.text,))
            for one, source in rows
        ],
    )
    db.close()


def line(console: Console, name: str, values: list[float]) -> None:
    cuts = statistics.quantiles(values, n=100)
    console.print(f"  {name:<38} p50 {cuts[49]:7.2f}   p95 {cuts[94]:7.2f}   max {max(values):7.2f}")


def crowd(console: Console, settings: Settings) -> None:
    """No call ends before all have half of their reply, so that all of them are open at once."""
    db, dispatcher = connect(settings.sqlalchemy_url), Dispatcher(settings)
    with (
        scripted(CROWD) as url,
        process(
            ["workers.app", "answer"],
            replace(with_model(settings, url), answer_threads=CROWD).as_environment(),
        ) as worker,
    ):
        await_line(worker, '"ready"')
        idle, ids = high_water(worker.pid), waiting_jobs(db, CROWD)
        began = time.monotonic()
        for job_id in ids:
            dispatcher.dispatch([job_id], "answer", "all", "interactive")
        _await_end(db, ids)
        seconds, peak = time.monotonic() - began, high_water(worker.pid)
    by_model = db.read(
        lambda session: sum(
            row.answer["source"] == "language_model"
            for row in session.scalars(select(JobRow).where(JobRow.id >= ids[0]))
            if row.answer
        )
    )
    dispatcher.close()
    db.close()
    console.print(f"[bold]{CROWD} calls at once on one answer worker[/bold]")
    console.print(
        f"  {by_model} answered by the model in {seconds:.1f} s   idle {idle / 2**20:.0f} MB   peak {peak / 2**20:.0f} MB"
    )


def _await_end(db: Database, ids: list[str]) -> None:
    ended = select(func.count()).where(
        JobRow.id >= ids[0], JobRow.status.in_([one.value for one in TERMINAL])
    )
    until = time.monotonic() + CROWD_S
    while (db.read(lambda session: session.scalar(ended)) or 0) < len(ids):
        if time.monotonic() > until:
            raise RuntimeError(f"{CROWD} calls were not over after {CROWD_S:.0f} s")
        time.sleep(0.2)


def bench(console: Console, scratch: Path) -> None:
    server = Redis().start()
    settings = replace(Settings(), data_dir=str(scratch), broker_url=server.url)
    upgrade(settings.sqlalchemy_url)
    try:
        overhead(console, settings, "no added texts")
        add_leaflets(settings)
        overhead(console, settings, "44 added passages, English, by words and meaning")
        overhead(console, replace(settings, embeddings="off"), "the same by words alone")
        crowd(console, settings)
    finally:
        server.close()


if __name__ == "__main__":
    bench(Console(), Path(sys.argv[1]))
