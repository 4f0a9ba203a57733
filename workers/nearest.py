"""What an answer without a language model may quote because the question asks for it."""

from collections.abc import Collection
from functools import cache

from shared.catalog import PIPELINES, Lang
from workers.encoder import Encoder
from workers.knowledge import WORTH_READING, Passage, library, passages
from workers.prompt import Case
from workers.ranking import Index, takes_up
from workers.said import soothing
from workers.urgency import URGENCIES, deciding_label, level, measured

QUOTED = 2  # passages; more would bury what to do


def nearest(case: Case, said: Collection[str], encoder: Encoder | None = None) -> list[Passage]:
    """Passages of this case that come near to its question, best first, without those `said` already.

    Of our own only those about a label that is as urgent as the one that decides: what is harmless about another
    label must not stand beside it. Of an operator's none that calms, postpones or is sure of itself.
    """
    question = case.question.strip()
    if not question:
        return []
    wanted = {
        passage.id for passage in case.passages if passage.id not in said and _may_be_quoted(passage, case)
    }
    ours = index(case.pipeline, case.lang, encoder).nearest(
        question, limit=1, keep=lambda passage: passage.id in wanted
    )
    added = [
        passage
        for passage in case.passages
        if passage.added and passage.id in wanted and takes_up(question, passage, case.lang, encoder)
    ]
    return [*ours, *added][:QUOTED]


def _may_be_quoted(passage: Passage, case: Case) -> bool:
    if passage.added:
        return not soothing(passage.text)
    if case.thread is None and not _likely(passage.label, case):
        return False
    decides = deciding_label(case)
    return decides is not None and URGENCIES.index(level(passage.label, case)) <= URGENCIES.index(
        level(decides, case)
    )


def _likely(label: str, case: Case) -> bool:
    """What the picture hardly shows is not brought up, unless somebody asks about it again."""
    likely = {f.label for f in case.findings if f.above_threshold or f.probability >= WORTH_READING}
    return label in likely or label in measured(case)


@cache
def index(pipeline: str, lang: Lang, encoder: Encoder | None = None) -> Index:
    """All of our own passages of a pipeline in a language."""
    texts = (library().get((pipeline, label.code)) for label in PIPELINES[pipeline].labels)
    ours = [passage for text in texts if text for passage in passages(pipeline, text, lang)]
    return Index(ours, lang, encoder)
