"""The passages that fit a case: pieces of our reference texts, in the reader's language."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Literal

from shared.catalog import PIPELINES, Label, Lang, Urgency
from shared.schemas import Finding, Grade, Segment
from workers.label_texts import TEXTS, TOPICS, LabelText, Library, Source, Topic, load

WORTH_READING = 0.05  # below this probability a label's text would only distract from the others


@dataclass(frozen=True)
class Quote:
    """A statement in the reader's language."""

    text: str
    source: Source


@dataclass(frozen=True)
class Passage:
    """One topic of one label in one language, or a piece of a text that an operator added.

    It is what prompts hold and answers cite.
    """

    id: str  # pipeline/label/topic, or added/text/number
    label: str  # empty for an added one, which is about no label that we know
    topic: Topic | Literal["added"]
    title: str
    quotes: tuple[Quote, ...]
    department: str | None
    urgency: Urgency | None
    date: date
    reviewed_by: str

    @property
    def text(self) -> str:
        return " ".join(quote.text for quote in self.quotes)

    @property
    def sources(self) -> tuple[Source, ...]:
        """Each source once, in the order of the text."""
        return tuple(dict.fromkeys(quote.source for quote in self.quotes))

    @property
    def added(self) -> bool:
        return self.topic == "added"


@cache
def library() -> Library:
    """The texts that MedQ ships; the first call reads them, so an entry point makes it before it serves."""
    return load(TEXTS)


def retrieve(
    pipeline: str,
    findings: Sequence[Finding],
    question: str,
    lang: Lang,
    limit: int = 3,
    texts: Library | None = None,
    measured: Sequence[str] = (),
) -> list[Passage]:
    """The passages about the labels that matter to this case, most probable label first.

    Labels above threshold, labels that the question names and `measured` ones are always in; the next
    most probable ones fill up to `limit` labels. The same case gives the same passages.
    """
    known = library() if texts is None else texts
    chosen = [*_worth_reading(pipeline, findings, question, limit, known), *measured]
    return [
        passage
        for label in dict.fromkeys(chosen)
        if (text := known.get((pipeline, label))) is not None
        for passage in passages(pipeline, text, lang)
    ]


def _worth_reading(
    pipeline: str, findings: Sequence[Finding], question: str, limit: int, known: Library
) -> list[str]:
    """Labels of findings, most probable first."""
    ranked = sorted(findings, key=lambda finding: (-finding.probability, finding.label))
    asked = named(question, pipeline, known)
    chosen = [f.label for f in ranked if f.above_threshold]
    chosen += [f.label for f in ranked if f.label in asked]
    worth = [f.label for i, f in enumerate(ranked) if i == 0 or f.probability >= WORTH_READING]
    chosen = list(dict.fromkeys(chosen))
    chosen += [label for label in worth if label not in chosen][: max(0, limit - len(chosen))]
    rank = {finding.label: i for i, finding in enumerate(ranked)}
    return sorted(chosen, key=rank.__getitem__)


def measured_labels(
    pipeline: str, segments: Sequence[Segment] | None, grades: Sequence[Grade] | None
) -> list[str]:
    """What was outlined, largest first, and what was graded above 0, worst first.

    Of a picture in which nothing was outlined the head's first label speaks: background, or normal.
    """
    areas = sorted(segments or (), key=lambda segment: (-segment.area_fraction, segment.label))
    worst = sorted(grades or (), key=lambda grade: (-grade.grade, grade.condition))
    nothing = [PIPELINES[pipeline].labels[0].code] if segments is not None and not areas else []
    return [
        *nothing,
        *(segment.label for segment in areas),
        *(grade.condition for grade in worst if grade.grade > 0),
    ]


def passages(pipeline: str, text: LabelText, lang: Lang) -> list[Passage]:
    """One passage for each topic that the text speaks of."""
    return [
        Passage(
            id=f"{pipeline}/{text.label}/{topic}",
            label=text.label,
            topic=topic,
            title=text.title[lang],
            quotes=tuple(Quote(statement.texts[lang], statement.source) for statement in about),
            department=text.department[lang],
            urgency=text.urgency,
            date=text.date,
            reviewed_by=text.reviewed_by,
        )
        for topic in TOPICS
        if (about := text.about(topic))
    ]


def names_of(pipeline: str, labels: Sequence[str]) -> list[str]:
    """Every name by which texts may mean these labels, in any language."""
    wanted = [label for label in PIPELINES[pipeline].labels if label.code in labels]
    return [name for label in wanted for name in _names(label, pipeline, library())]


def named(question: str, pipeline: str, texts: Library) -> set[str]:
    """The labels that a text calls by one of their names, in any language."""
    asked = question.casefold()
    labels = PIPELINES[pipeline].labels
    return {label.code for label in labels if any(_says(asked, n) for n in _names(label, pipeline, texts))}


def _names(label: Label, pipeline: str, texts: Library) -> tuple[str, ...]:
    text = texts.get((pipeline, label.code))
    written = (*text.title.values(), *text.also) if text else ()
    return (label.en, label.ko, label.fr, *label.aliases, *written)


def _says(text: str, name: str) -> bool:
    """Whole words, so that a molecule is no mole; Korean joins its particles to the word, so no end is asked."""
    name = name.casefold()
    # So it is with nearly all names; a pattern for each would be the dearest part of checking a reply.
    if name not in text:
        return False
    end = "" if re.search(r"[가-힣]$", name) else r"(?:e?s|e)?(?!\w)"
    return re.search(rf"(?<!\w){re.escape(name)}{end}", text) is not None
