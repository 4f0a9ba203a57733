"""Prints what words, meaning and both find: `python -m tests.retrieval`; also what an encoder costs."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.retrieval.asked import METHODS, Score, finders, leaflets, of_leaflets, score, score_ours
from workers.encoder import Encoder, find_encoder


def main() -> None:
    before_mb, began = memory_mb(), time.process_time()
    encoder = find_encoder(True)
    if encoder is None:
        raise SystemExit("There is no encoder; see the line above.")
    load_s = time.process_time() - began
    console = Console(width=100)
    console.print(table(encoder))
    console.print(f"encoder: {load_s:.1f} s of CPU to load")
    costs(console, encoder)
    console.print(f"memory: {memory_mb() - before_mb:.0f} MB more than without it")


def table(encoder: Encoder) -> Table:
    shown = Table("questions", "method", "found first", "among 3", "MRR", "astray", box=None)
    found = finders(leaflets(), encoder)
    for half in ("open", "locked", "worded"):
        asked = of_leaflets(half)
        rows(shown, f"leaflets, {half}", {method: score(asked, found[method]) for method in METHODS})
    for half in ("open", "locked"):
        rows(shown, f"our own, {half}", score_ours(half, encoder))
    return shown


def rows(shown: Table, name: str, scores: Mapping[str, Score]) -> None:
    for method, one in scores.items():
        figures = (one.first, one.shown, one.reciprocal, one.astray)
        shown.add_row(name, method, *(f"{figure:.2f}" for figure in figures))
        name = ""


def costs(console: Console, encoder: Encoder) -> None:
    asked = [one.question for one in of_leaflets("locked")]
    read = [f"{passage.title}. {passage.text}" for passage in leaflets()]
    for name, texts in (("question", asked), ("passage", read)):
        wall, cpu = (spent(clock, encoder, texts) for clock in (time.perf_counter, time.process_time))
        console.print(f"{name}: {1000 * wall:.1f} ms, {1000 * cpu:.1f} ms of CPU; mean of {len(texts)}")


def spent(clock: Callable[[], float], encoder: Encoder, texts: list[str]) -> float:
    began = clock()
    for text in texts:
        encoder.question(text)
    return (clock() - began) / len(texts)


def memory_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
