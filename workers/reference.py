"""Answers: the one we put together from our own texts, and the frame around a language model's words."""

from collections.abc import Sequence
from typing import get_args

from shared.catalog import PIPELINES
from shared.errors import AnswerRejected
from shared.schemas import Answer, Check, Citation, Finding, PromptUsed, TokenUsage, Urgency
from workers.knowledge import WORTH_READING, Passage, Topic
from workers.llm import Completion
from workers.phrases import PHRASES
from workers.prompt import Case, Prompt

URGENCIES: tuple[Urgency, ...] = get_args(Urgency)  # most urgent first

# What a label above its threshold asks for at least, whatever a text file says.
FLOORS: dict[tuple[str, str], Urgency] = {
    ("skin", "mel"): "within_days",
    ("skin", "bcc"): "routine",
    ("skin", "akiec"): "routine",
}
UNDECIDED: Urgency = "routine"  # an unclear picture is looked at by somebody, it is never waved through
SELF_CARE_FROM = 0.9  # below this probability nobody is told to just watch
SURE_FROM = (0.9, 0.7, 0.5)  # very, fairly, not very sure; below: unsure
DOUBTS = frozenset({"low_quality", "out_of_distribution"})
OTHERS_SHOWN = 2
LONGEST_ANSWER = 8_000  # characters of a language model's answer


def reference_answer(case: Case, prompt: Prompt, refused_reason: str | None = None) -> Answer:
    """The answer without a language model: findings in words, quotes from our texts, what to do next.

    `refused_reason` says why a language model's answer, or its call, was not used.
    """
    quotes = _quotes(case)
    paragraphs = (
        _result(case),
        _doubts(case),
        _next(case, quotes),
        _quoted(quotes, "what"),
        _quoted(quotes, "not_to_do"),
        " ".join(cannot_tell(case)),
        _origin(case, quotes),
    )
    return Answer(
        text="\n\n".join(paragraph for paragraph in paragraphs if paragraph),
        source="reference",
        urgency=urgency(case),
        cannot_tell=cannot_tell(case),
        department=department(case),
        next_step=next_step(case),
        refused_reason=refused_reason,
        citations=quotes,
        prompt=PromptUsed(name=prompt.name, sha256=prompt.sha256),
    )


def language_model_answer(case: Case, prompt: Prompt, completion: Completion) -> Answer:
    """A language model's text; how soon, with whom and on what grounds is ours, derived from the findings.

    Raises: AnswerRejected if the text is empty or longer than LONGEST_ANSWER
    """
    text = completion.text.strip()
    checks = [
        Check(name="non_empty", passed=bool(text)),
        Check(name="length", passed=len(text) <= LONGEST_ANSWER),
    ]
    if failed := [check.name for check in checks if not check.passed]:
        raise AnswerRejected(f"The language model's answer did not pass: {', '.join(failed)}.")
    return Answer(
        text=text,
        source="language_model",
        model=completion.model,
        urgency=urgency(case),
        cannot_tell=cannot_tell(case),
        department=department(case),
        next_step=next_step(case),
        checks=checks,
        citations=_quotes(case),
        prompt=PromptUsed(name=prompt.name, sha256=prompt.sha256),
        usage=TokenUsage(input_tokens=completion.input_tokens, output_tokens=completion.output_tokens),
    )


def urgency(case: Case) -> Urgency:
    """The highest level over the labels above threshold, and UNDECIDED when there is none.

    Less than UNDECIDED takes a clear finding in a picture that raised no doubts.
    """
    levels = [_level(finding, case) for finding in _flagged(case)]
    clear = any(finding.probability >= SELF_CARE_FROM for finding in _flagged(case)) and not _doubted(case)
    return most_urgent(levels if clear else [*levels, UNDECIDED])


def most_urgent(levels: Sequence[Urgency]) -> Urgency:
    return min(levels, key=URGENCIES.index)


def next_step(case: Case) -> str:
    return PHRASES[case.lang].next_steps[urgency(case)]


def department(case: Case) -> str | None:
    """Of the label that decides; None for a pipeline that we have no texts about."""
    main = _main(case)
    return next((p.department for p in case.passages if main and p.label == main.label), None)


def cannot_tell(case: Case) -> list[str]:
    count = len(PIPELINES[case.pipeline].labels)
    return [line.format(count=count) for line in PHRASES[case.lang].cannot_tell]


def _ranked(case: Case) -> list[Finding]:
    return sorted(case.findings, key=lambda finding: (-finding.probability, finding.label))


def _flagged(case: Case) -> list[Finding]:
    return [finding for finding in _ranked(case) if finding.above_threshold]


def _level(finding: Finding, case: Case) -> Urgency:
    """How soon this label asks to be seen: its text's word, and never less than its floor."""
    levels = [passage.urgency for passage in case.passages if passage.label == finding.label][:1]
    levels += [FLOORS[key]] if (key := (case.pipeline, finding.label)) in FLOORS else []
    return most_urgent(levels or [UNDECIDED])


def _main(case: Case) -> Finding | None:
    """The finding that decides what to do: the most urgent above threshold, else the most probable."""
    if flagged := _flagged(case):
        return min(flagged, key=lambda finding: URGENCIES.index(_level(finding, case)))
    return next(iter(_ranked(case)), None)


def _doubted(case: Case) -> bool:
    return any(warning.code in DOUBTS for warning in case.warnings)


def _name(finding: Finding, case: Case) -> str:
    """As our texts call it for the reader, else as the catalog does."""
    titles = [passage.title for passage in case.passages if passage.label == finding.label]
    return titles[0] if titles else PIPELINES[case.pipeline].label(finding.label).name(case.lang)


def _percent(probability: float, case: Case) -> str:
    """Whole percent; never 0 or 100, which no classifier knows."""
    under, whole, over = PHRASES[case.lang].percent
    if probability < 0.01:
        return under
    return over if probability > 0.99 else whole.format(n=round(probability * 100))


def _result(case: Case) -> str:
    """The first paragraph: what the picture suggests, how sure that is, and what else deserves a word."""
    say, ranked = PHRASES[case.lang], _ranked(case)
    if not ranked:
        return f"{say.nothing} {say.neither}"
    top, *rest = ranked
    if not _flagged(case):
        return f"{_fill(say.undecided, top, case)} {say.neither}"
    named = [_fill(say.suggests, top, case), _sureness(top, case)]
    lines = named if top.above_threshold else [_fill(say.resembles, top, case)]
    marked = [f for f in rest if f.above_threshold and _level(f, case) != "self_care"]
    for finding in marked:
        lines.append(_fill(say.also_marked, finding, case))
        lines += [say.low_bar] if finding.label == "mel" else []
    return " ".join([*lines, *_others([f for f in rest if f not in marked], case), say.hint])


def _fill(phrase: str, finding: Finding, case: Case) -> str:
    return phrase.format(name=_name(finding, case), percent=_percent(finding.probability, case))


def _sureness(finding: Finding, case: Case) -> str:
    band = sum(finding.probability < bound for bound in SURE_FROM)
    return PHRASES[case.lang].sure[band].format(percent=_percent(finding.probability, case))


def _others(rest: Sequence[Finding], case: Case) -> list[str]:
    say = PHRASES[case.lang]
    likely = [finding for finding in rest if finding.probability >= WORTH_READING]
    names = ", ".join(_fill(say.other, finding, case) for finding in likely[:OTHERS_SHOWN])
    return [say.others.format(names=names)] if names else []


def _doubts(case: Case) -> str:
    say, codes = PHRASES[case.lang], {warning.code for warning in case.warnings}
    lines = {"out_of_distribution": say.out_of_distribution, "low_quality": say.low_quality}
    return " ".join(line for code, line in lines.items() if code in codes)


def _next(case: Case, quotes: Sequence[Citation]) -> str:
    main, level = _main(case), urgency(case)
    lines = [PHRASES[case.lang].next_steps[level]]
    if main and main.above_threshold and URGENCIES.index(level) < URGENCIES.index("routine"):
        lines.append(_fill(PHRASES[case.lang].mention, main, case))
    return " ".join([*lines, _quoted(quotes, "see_whom")]).strip()


def _origin(case: Case, quotes: Sequence[Citation]) -> str:
    """Where the answer comes from, said last and always."""
    say = PHRASES[case.lang]
    reviewers = [quote.reviewed_by for quote in quotes]
    names = ", ".join(dict.fromkeys(name for name in reviewers if name))
    review = say.reviewed.format(names=names) if names and all(reviewers) else say.unreviewed
    asked = f"{say.question}\n\n" if case.question.strip() else ""
    return f"{asked}{say.no_model} {review}"


def _quotes(case: Case) -> list[Citation]:
    """Statements, word for word: what it is, whom to see, what not to do, for the finding that decides.

    What it is also for the most probable finding. Of a picture in which nothing passes its threshold
    only what not to do is said: the rest could calm or alarm without reason.
    """
    main = _main(case)
    if main is None:
        return []
    wanted: list[tuple[str, Topic]] = [(main.label, "not_to_do")]
    if main.above_threshold:
        top = next(iter(_ranked(case)))
        what = dict.fromkeys([top.label, main.label] if top.above_threshold else [main.label])
        wanted = [*((label, "what") for label in what), (main.label, "see_whom"), *wanted]
    return [
        citation
        for label, topic in wanted
        for passage in case.passages
        if (passage.label, passage.topic) == (label, topic)
        for citation in _citations(passage)
    ]


def _citations(passage: Passage) -> list[Citation]:
    return [
        Citation(
            id=passage.id,
            title=f"{quote.source.publisher}: {quote.source.title}",
            quote=quote.text,
            url=quote.source.url,
            reviewed_by=passage.reviewed_by or None,
        )
        for quote in passage.quotes
    ]


def _quoted(quotes: Sequence[Citation], topic: Topic) -> str:
    return " ".join(quote.quote for quote in quotes if quote.id.endswith(f"/{topic}"))
