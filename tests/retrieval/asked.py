"""The questions of this folder as code, and how well a ranking answers them."""

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from workers.encoder import Encoder
from workers.knowledge import Passage, Quote, library, passages
from workers.label_texts import Source
from workers.ranking import Index, fused

HERE = Path(__file__).parent
SHOWN = 3  # passages that a prompt gets
SOURCE = Source("x", "Example Hospital", "Leaflet", "")
METHODS = ("words", "meaning", "both")

Find = Callable[[str], list[int]]  # a question to places in the list of passages, best first


@dataclass(frozen=True)
class Asked:
    """`answer` is the passage's place; None: nothing answers it."""

    question: str
    answer: int | None


@dataclass(frozen=True)
class Score:
    """Shares of the questions that something answers: found first, found among SHOWN; mean reciprocal rank in those.

    `astray` is how many passages a question gets that none answers.
    """

    first: float
    shown: float
    reciprocal: float
    astray: float


@cache
def read(name: str) -> dict[str, Any]:
    return tomllib.loads((HERE / name).read_text(encoding="utf-8"))


def leaflets() -> list[Passage]:
    return [
        Passage(
            row["id"],
            "",
            "added",
            row["title"],
            (Quote(row["text"], SOURCE),),
            None,
            None,
            date(2026, 3, 1),
            "",
        )
        for row in read("leaflets.toml")["passage"]
    ]


def of_leaflets(half: str) -> list[Asked]:
    """`half` is open, locked or worded."""
    rows = read("leaflets.toml")
    answered = [Asked(row[half], i) for i, row in enumerate(rows["passage"]) if half in row]
    return answered + [Asked(question, None) for question in rows["unanswered"].get(half, ())]


def score(asked: Sequence[Asked], find: Find) -> Score:
    found = [(one, find(one.question)[:SHOWN]) for one in asked]
    ranks = [
        hits.index(one.answer) if one.answer in hits else None
        for one, hits in found
        if one.answer is not None
    ]
    lost = [len(hits) for one, hits in found if one.answer is None]
    count = len(ranks)
    return Score(
        first=ranks.count(0) / count,
        shown=sum(rank is not None for rank in ranks) / count,
        reciprocal=sum(1 / (1 + rank) for rank in ranks if rank is not None) / count,
        astray=sum(lost) / len(lost) if lost else 0.0,
    )


def finders(found: Sequence[Passage], encoder: Encoder) -> dict[str, Find]:
    """By words, by meaning, and by both, as shipped."""
    index, every = Index(found, "en", encoder), range(len(found))

    def by_words(question: str) -> list[int]:
        return index.by_words(question, (), every)

    def by_meaning(question: str) -> list[int]:
        return index.by_meaning(question, every)

    return {
        "words": by_words,
        "meaning": by_meaning,
        "both": lambda question: fused(by_words(question), by_meaning(question)),
    }


def score_ours(half: str, encoder: Encoder) -> dict[str, Score]:
    """Each question among the passages of its own label, as somebody asks again about a picture."""
    scores: dict[str, list[Score]] = {method: [] for method in METHODS}
    for row in read("ours.toml")["question"]:
        about = passages("skin", library()["skin", row["label"]], "en")
        answer = next(i for i, passage in enumerate(about) if passage.topic == row["topic"])
        for method, find in finders(about, encoder).items():
            scores[method].append(score([Asked(row[half], answer)], find))
    return {method: _mean(each) for method, each in scores.items()}


def _mean(each: Sequence[Score]) -> Score:
    return Score(
        *(sum(values) / len(each) for values in zip(*(vars(one).values() for one in each), strict=True))
    )
