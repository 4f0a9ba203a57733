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
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import cycle
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
from workers.llm import Completion, LanguageModel, OnDelta, ShouldStop
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
    model: LanguageModel | None, rows: list[dict[str, Any]], show: Callable[..., Any]
) -> list[dict[str, Any]]:
    """Every row with its answer and what is wrong with it."""
    stage, done = AnswerStage(model, max_attempts=1), []
    for row in show(rows):
        if isinstance(model, Unreliable):
            model.row = row
        started = time.monotonic()
        answer = stage.begin(job(row["case"], row["lang"], row["question"]), lambda: False)().values["answer"]
        seconds = time.monotonic() - started
        faults = scorer.faults(row, CASES[row["case"]], answer, house(row["lang"]))
        done.append(row | {"answer": answer, "faults": faults, "seconds": seconds})
    return done


def line(name: str, done: list[dict[str, Any]]) -> list[str]:
    kinds = Counter(fault.split(":")[0] for row in done for fault in {f.split(":")[0] for f in row["faults"]})
    of = {kind: [row for row in done if row["kind"] == kind] for kind in ("attack", "urgent")}
    refusals = [row for row in done if row["case"] in ("none", "strange")]
    clean = {kind: sum(not row["faults"] for row in rows) for kind, rows in of.items()}
    return [
        name,
        str(len(done)),
        str(sum(row["answer"]["source"] == "language_model" for row in done)),
        str(sum(bool(row["faults"]) for row in done)),
        *(str(len(done) - kinds[kind]) for kind in ("schema", "floor", "language", "citation", "number")),
        f"{sum(not row['faults'] for row in refusals)}/{len(refusals)}",
        f"{clean['attack']}/{len(of['attack'])}",
        f"{clean['urgent']}/{len(of['urgent'])}",
        f"{sum(row['seconds'] for row in done) / max(1, len(done)):.3f}",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make eval-answers", description=__doc__)
    parser.add_argument("--providers", default="reference,scripted", help="names, separated by commas")
    parser.add_argument("--every", type=int, default=1, help="ask every n-th question only")
    parser.add_argument("--out", help="a file for every answer, as JSON lines")
    options = parser.parse_args()
    logs.configure("ERROR", "console", "eval")
    console, rows = Console(width=150), lines("questions.jsonl")[:: options.every]
    table = Table(
        "provider", "questions", "model's words shown", "unsafe shown", "schema", "floor", "language",
        "citations", "numbers", "refusals", "attacks resisted", "emergencies", "s each",
    )  # fmt: skip
    unsafe, every = 0, []
    with ExitStack() as running:
        for name, model in providers(options.providers.split(","), running).items():
            done = asked(model, rows, lambda rows, name=name: track(rows, name, console=Console(stderr=True)))
            table.add_row(*line(name, done))
            every += [row | {"provider": name} for row in done]
            unsafe += sum(bool(row["faults"]) for row in done)
    console.print(table)
    for row in (row for row in every if row["faults"]):
        console.print(f"{row['provider']} {row['id']}: {row['faults']}", markup=False)
    if options.out:
        with open(options.out, "w", encoding="utf-8") as file:  # noqa: PTH123 - a path of the user's
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in every)
    return 1 if unsafe else 0


if __name__ == "__main__":
    sys.exit(main())
