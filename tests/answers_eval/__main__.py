"""Asks every question of every provider, scores the answers, prints a table: `make eval-answers`.

reference   no language model
scripted    a model that replies well now and then, and otherwise with a planted unsafe reply or nonsense
smollm2     a real OpenAI-compatible server with a tiny model, whose words are worth nothing
openai      what OPENAI_BASE_URL and MEDQ_OPENAI_MODEL name, when MEDQ_ANSWERS=openai
"""

import argparse
import dataclasses
import json
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import cycle
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from shared import logs
from shared.settings import Settings
from tests.answers_eval import scorer
from tests.answers_eval.replies import good, lines, planted
from tests.workers.cases import CASES, job
from workers.answer import AnswerStage
from workers.encoder import find_encoder
from workers.hanging_up import ShouldStop
from workers.llm import Completion, LanguageModel, OnDelta
from workers.phrases import PHRASES
from workers.prompt import Prompt
from workers.providers import make_providers

NONSENSE = (
    "",
    "It is benign.",
    "{",
    '{"answer": "fine"}',
    "mole " * 400,
    "죄송합니다.",
    "null",
    "<think>",
    "[]",
)


class Unreliable:
    """Replies well to every third call at most; the rest are planted replies and nonsense."""

    def __init__(self) -> None:
        rows = [*lines("planted_open.jsonl"), *lines("planted_locked.jsonl")]
        self._bad = {lang: cycle([row for row in rows if row["lang"] == lang]) for lang in PHRASES}
        self._nonsense = cycle(NONSENSE)
        self._calls = 0
        self.row: dict[str, Any] = {}

    def complete(
        self, prompt: Prompt, *, on_delta: OnDelta | None = None, should_stop: ShouldStop | None = None
    ) -> Completion:
        self._calls += 1
        lang, case = self.row["lang"], self.row["case"]
        if self._calls % 3 == 0 and case in ("mel_clear", "nv_clear", "bcc"):
            return Completion(json.dumps(good(lang, case)), "scripted", 1, 1)
        if self._calls % 5 == 0:
            return Completion(next(self._nonsense), "scripted", 1, 1)
        return Completion(json.dumps(planted(next(self._bad[lang]))), "scripted", 1, 1)


def house(lang: str) -> list[str]:
    """What MedQ itself says in every answer, as patterns for the scorer."""

    def texts(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield re.sub(r"\\\{\w+\\\}", ".{1,90}?", re.escape(value))
        else:
            for item in value.values() if isinstance(value, dict) else value:
                yield from texts(item)

    found = texts(dataclasses.asdict(PHRASES[lang]))  # type: ignore[arg-type,index]
    return sorted((text for text in found if len(text) > 25), key=len, reverse=True)


def providers(wanted: list[str], running: ExitStack) -> dict[str, LanguageModel | None]:
    found: dict[str, LanguageModel | None] = {"reference": None, "scripted": Unreliable()}
    if "smollm2" in wanted:
        from tests.smollm2 import serving  # loads 93 MB: only where it is asked for

        found["smollm2"] = running.enter_context(serving()).model()
    settings = Settings.from_env()
    if settings.answers != "reference":
        found["openai"] = make_providers(settings)
    return {name: model for name, model in found.items() if name in wanted or name == "openai"}


def asked(
    model: LanguageModel | None, rows: Sequence[dict[str, Any]], together: int = 1
) -> Iterator[dict[str, Any]]:
    """Every row with its answer, in order, as they come; `together` calls at once.

    Whoever stops listening ends the calls that are under way.
    """
    encoder = find_encoder(Settings.from_env().embeddings == "on")
    stage, over = AnswerStage(model, max_attempts=1, encoder=encoder), threading.Event()

    def one(row: dict[str, Any]) -> dict[str, Any]:
        if isinstance(model, Unreliable):
            model.row = row
        started = time.monotonic()
        answer = stage.begin(job(row["case"], row["lang"], row["question"]), over.is_set)().values["answer"]
        return row | {"answer": answer, "seconds": time.monotonic() - started}

    with ThreadPoolExecutor(1 if isinstance(model, Unreliable) else together) as pool:
        try:
            yield from pool.map(one, rows)
        finally:
            over.set()
            pool.shutdown(cancel_futures=True)


def scored(row: dict[str, Any]) -> dict[str, Any]:
    """The row with what is wrong with its answer."""
    return row | {"faults": scorer.faults(row, CASES[row["case"]], row["answer"], house(row["lang"]))}


def reasons(done: Sequence[dict[str, Any]]) -> list[tuple[str, int]]:
    """Why the reference texts answered, and which checks a withheld reply failed, the most frequent first."""
    refused = [answer for row in done if (answer := row["answer"])["refused_reason"]]
    whys = Counter(answer["refused_reason"].split(":")[0].rstrip(".") for answer in refused)
    failed = Counter(
        f"  check {check['name']}" for answer in refused for check in answer["checks"] if not check["passed"]
    )
    return [*whys.most_common(), *failed.most_common()]


def line(name: str, done: Sequence[dict[str, Any]], of_all: int) -> list[str]:
    kinds = Counter(fault.split(":")[0] for row in done for fault in {f.split(":")[0] for f in row["faults"]})
    of = {kind: [row for row in done if row["kind"] == kind] for kind in ("attack", "urgent")}
    refusals = [row for row in done if row["case"] in ("none", "strange")]
    clean = {kind: sum(not row["faults"] for row in rows) for kind, rows in of.items()}
    return [
        name,
        f"{len(done)} of {of_all}",
        str(sum(row["answer"]["source"] == "language_model" for row in done)),
        str(sum(bool(row["faults"]) for row in done)),
        *(str(len(done) - kinds[kind]) for kind in ("schema", "floor", "language", "citation", "number")),
        f"{sum(not row['faults'] for row in refusals)}/{len(refusals)}",
        f"{clean['attack']}/{len(of['attack'])}",
        f"{clean['urgent']}/{len(of['urgent'])}",
        f"{sum(row['seconds'] for row in done) / max(1, len(done)):.3f}",
    ]


def part(text: str) -> slice:
    """Of `1-60`, both counted from 1."""
    first, last = (int(number) for number in text.split("-"))
    if not 1 <= first <= last:
        raise ValueError(text)
    return slice(first - 1, last)


def before(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """What an earlier run wrote, by provider and question; a line that it did not end is left out."""
    found = {}
    for text in path.read_text(encoding="utf-8").splitlines():
        with suppress(json.JSONDecodeError):
            row = json.loads(text)
            found[row["provider"], row["id"]] = row
    return found


def table() -> Table:
    return Table(
        "provider", "questions", "model's words shown", "unsafe shown", "schema", "floor", "language",
        "citations", "numbers", "refusals", "attacks resisted", "emergencies", "s each",
    )  # fmt: skip


def show(console: Console, every: Sequence[dict[str, Any]], of_all: int) -> None:
    """The table, then why the reference texts answered, then what is unsafe."""
    shown, names = table(), dict.fromkeys(row["provider"] for row in every)
    for name in names:
        shown.add_row(*line(name, [row for row in every if row["provider"] == name], of_all))
    console.print(shown)
    for name in names:
        for reason, count in reasons([row for row in every if row["provider"] == name]):
            console.print(f"{name:<10} {count:4} {reason}", markup=False)
    for row in (row for row in every if row["faults"]):
        console.print(f"{row['provider']} {row['id']}: {row['faults']}", markup=False)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make eval-answers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--providers", default="reference,scripted", help="names, separated by commas")
    parser.add_argument("--every", type=int, default=1, help="ask every n-th question only")
    parser.add_argument("--questions", type=part, default=slice(None), help="only these, such as 1-60")
    parser.add_argument("--together", type=int, default=2, help="calls of a provider at once")
    parser.add_argument("--out", type=Path, help="a file for every answer, as JSON lines")
    parser.add_argument("--resume", action="store_true", help="go on with that file, ask what is not in it")
    options = parser.parse_args()
    if options.resume and not options.out:
        parser.error("--resume goes on with --out FILE")
    return options


def main() -> int:
    """Ctrl-C or SIGTERM end it early, with the table so far."""
    options = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logs.configure("ERROR", "console", "eval")
    everything = lines("questions.jsonl")
    rows = everything[options.questions][:: options.every]
    known = before(options.out) if options.resume and options.out.exists() else {}
    every, stopped = [scored(row) for row in known.values()], False
    with ExitStack() as running:
        kept = (
            running.enter_context(options.out.open("a" if options.resume else "w", encoding="utf-8"))
            if options.out
            else None
        )
        try:
            for name, model in providers(options.providers.split(","), running).items():
                todo = [row | {"provider": name} for row in rows if (name, row["id"]) not in known]
                coming = asked(model, todo, options.together)
                for row in track(map(scored, coming), name, len(todo), console=Console(stderr=True)):
                    every.append(row)
                    if kept:
                        kept.write(json.dumps(row, ensure_ascii=False) + "\n")
                        kept.flush()
        except KeyboardInterrupt:
            stopped = True
    show(Console(width=150), every, len(everything))
    return 1 if any(row["faults"] for row in every) else 130 if stopped else 0


if __name__ == "__main__":
    sys.exit(main())
