"""Answers: the one we put together from our own texts, and the frame around a language model's words."""

from collections.abc import Sequence

from shared.catalog import PIPELINES
from shared.schemas import Answer, Check, Citation, Finding, PromptUsed, TokenUsage
from workers.encoder import Encoder
from workers.knowledge import WORTH_READING, Passage
from workers.label_texts import Topic
from workers.llm import Completion
from workers.nearest import nearest
from workers.phrases import PHRASES
from workers.prompt import Case, Prompt
from workers.reply import Reply
from workers.said import loose
from workers.urgency import (
    URGENCIES,
    already_weighed,
    danger,
    deciding,
    deciding_label,
    department,
    flagged,
    floor,
    level,
    most_urgent,
    percent,
    ranked,
)

SURE_FROM = (0.9, 0.7, 0.5)  # very, fairly, not very sure; below: unsure
OTHERS_SHOWN = 2


def reference_answer(
    case: Case,
    prompt: Prompt,
    reason: str | None = None,
    checks: Sequence[Check] = (),
    encoder: Encoder | None = None,
) -> Answer:
    """The answer without a language model: findings in words, quotes from our texts, what to do next.

    `reason` says why a language model's answer, or its call, was not used, and `checks` what it failed.
    With an `encoder` what comes near to the question is found by its meaning, too.
    """
    quotes = [] if case.thread is not None else _quotes(case)
    near = [] if refused(case) else nearest(case, {quote.id for quote in quotes}, encoder)
    paragraphs = _first(case, quotes, near) if case.thread is None else _again(case, near)
    return Answer(
        text="\n\n".join(paragraph for paragraph in paragraphs if paragraph),
        source="reference",
        urgency=floor(case),
        cannot_tell=cannot_tell(case),
        department=department(case),
        next_step=next_step(case),
        checks=list(checks),
        refused_reason=refused(case) or reason,
        citations=[*quotes, *(citation for passage in near for citation in _citations(passage))],
        prompt=PromptUsed(name=prompt.name, sha256=prompt.sha256),
    )


def _first(case: Case, quotes: Sequence[Citation], near: Sequence[Passage]) -> tuple[str, ...]:
    """All that there is to say of a picture."""
    return (
        alarm(case),
        *((_refusal(case),) if refused(case) else (_result(case), _doubts(case))),
        _next(case, quotes),
        _quoted(quotes, "what"),
        _untold(case),
        _quoted(quotes, "not_to_do"),
        *(_near(passage, case) for passage in near),
        " ".join(cannot_tell(case)),
        _origin(case, quotes),
    )


def _again(case: Case, near: Sequence[Passage]) -> tuple[str, ...]:
    """To a message: what comes near to it, or that nothing does; the first answer stands above it."""
    say = PHRASES[case.lang]
    nothing = _refusal(case) if refused(case) else say.unanswered
    return (
        alarm(case),
        *(_near(passage, case) for passage in near),
        "" if near else nothing,
        next_step(case),
        _origin(case, [quote for passage in near for quote in _citations(passage)]),
    )


def refused(case: Case) -> str | None:
    """Why the picture is not interpreted at all; None when it is.

    Raises nothing for pipelines without a classifier: what they measure has no threshold to pass.
    """
    if any(warning.code == "out_of_distribution" for warning in case.warnings):
        return "The picture is unlike those that the network learned from."
    if case.findings and not flagged(case):
        return "No finding passes its threshold."
    return None


def language_model_answer(
    case: Case, prompt: Prompt, completion: Completion, reply: Reply, checks: Sequence[Check]
) -> Answer:
    """A reply that passed every check, in the form that readers get."""
    say = PHRASES[case.lang]
    paragraphs = (
        alarm(case),
        " ".join(part for part in (reply.suggests, already_weighed(case)) if part),
        reply.answer,
        reply.next_step,
        " ".join(reply.cannot_tell),
        f"{say.by_model.format(model=completion.model)} {say.unreviewed}",
    )
    return Answer(
        text="\n\n".join(paragraph for paragraph in paragraphs if paragraph),
        source="language_model",
        model=completion.model,
        urgency=most_urgent([reply.urgency, floor(case)]),
        cannot_tell=reply.cannot_tell,
        department=reply.department or department(case),
        next_step=reply.next_step,
        checks=list(checks),
        citations=[cited for one in reply.citations for cited in _cited(one.id, one.quote, case)],
        prompt=PromptUsed(name=prompt.name, sha256=prompt.sha256),
        usage=TokenUsage(input_tokens=completion.input_tokens, output_tokens=completion.output_tokens),
    )


def alarm(case: Case) -> str:
    """What stands before everything else when the question tells of danger."""
    say, flags = PHRASES[case.lang], danger(case)
    if not flags:
        return ""
    if flags[0].urgency != "emergency":
        return say.soon
    helpline = [say.self_harm] if any(flag.rule == "self_harm" for flag in flags) else []
    return " ".join([say.emergency, *helpline])


def next_step(case: Case) -> str:
    """By the urgency; away from the skin nobody is sent to a dermatologist."""
    say, lowest = PHRASES[case.lang], floor(case)
    soon = URGENCIES.index(lowest) <= URGENCIES.index("within_24h")
    return say.next_steps[lowest] if soon or PIPELINES[case.pipeline].of_skin else say.elsewhere


def cannot_tell(case: Case) -> list[str]:
    pipeline = PIPELINES[case.pipeline]
    if not pipeline.of_skin:
        return list(PHRASES[case.lang].elsewhere_cannot_tell)
    count = len(pipeline.labels)
    return [line.format(count=count) for line in PHRASES[case.lang].cannot_tell]


def _name(finding: Finding, case: Case) -> str:
    """As our texts call it for the reader, else as the catalog does."""
    titles = [passage.title for passage in case.passages if passage.label == finding.label]
    return titles[0] if titles else PIPELINES[case.pipeline].label(finding.label).name(case.lang)


def _refusal(case: Case) -> str:
    """Instead of a result: nothing in it may calm or alarm."""
    say, nearest = PHRASES[case.lang], next(iter(ranked(case)), None)
    if any(warning.code == "out_of_distribution" for warning in case.warnings) or nearest is None:
        return f"{say.out_of_distribution} {say.no_result} {say.neither}"
    parts = (f"{_fill(say.undecided, nearest, case)} {say.neither}", already_weighed(case), _doubts(case))
    return " ".join(part for part in parts if part)


def _result(case: Case) -> str:
    """The first paragraph: what the picture suggests, how sure that is, and what else deserves a word."""
    say = PHRASES[case.lang]
    if not case.findings:
        return f"{_measured(case) or say.nothing} {say.hint}"
    top, *rest = ranked(case)
    named = [_fill(say.suggests, top, case), _sureness(top, case)]
    lines = named if top.above_threshold else [_fill(say.resembles, top, case)]
    marked = [f for f in rest if f.above_threshold and level(f.label, case) != "self_care"]
    for finding in marked:
        lines.append(_fill(say.also_marked, finding, case))
        lines += [say.low_bar] if PIPELINES[case.pipeline].label(finding.label).sensitivity else []
    lines += [*_others([f for f in rest if f not in marked], case), already_weighed(case), say.hint]
    return " ".join(line for line in lines if line)


def _untold(case: Case) -> str:
    """That we have no text about what the answer speaks of; empty when we have one, or nothing is interpreted."""
    spoken = {finding.label: _name(finding, case) for finding in (*ranked(case)[:1], *flagged(case))}
    if not spoken:
        spoken = {segment.label: segment.name for segment in case.segments or ()}
        spoken |= {grade.condition: grade.name for grade in case.grades or () if grade.grade > 0}
    told = {passage.label for passage in case.passages}
    names = [name for label, name in spoken.items() if label not in told]
    if refused(case) or not names:
        return ""
    return PHRASES[case.lang].no_text.format(names=", ".join(names))


def _measured(case: Case) -> str:
    """Areas and grades in a line; empty when there are none."""
    say = PHRASES[case.lang]
    areas = [
        say.area.format(name=segment.name, percent=percent(segment.area_fraction, case))
        for segment in case.segments or ()
    ]
    grades = [say.other.format(name=grade.name, percent=grade.grade_name) for grade in case.grades or ()]
    items = "; ".join([*areas, *grades])
    return say.measured.format(items=items) if items else ""


def _fill(phrase: str, finding: Finding, case: Case) -> str:
    return phrase.format(name=_name(finding, case), percent=percent(finding.probability, case))


def _sureness(finding: Finding, case: Case) -> str:
    band = sum(finding.probability < bound for bound in SURE_FROM)
    return PHRASES[case.lang].sure[band].format(percent=percent(finding.probability, case))


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
    main, lowest = deciding(case), floor(case)
    lines = [next_step(case)]
    if (
        main
        and main.above_threshold
        and not refused(case)
        and URGENCIES.index(lowest) < URGENCIES.index("routine")
    ):
        lines.append(_fill(PHRASES[case.lang].mention, main, case))
    if lowest == "emergency" and _from_the_question(case):  # "within two weeks" must not stand beside "now"
        return lines[0]
    return " ".join([*lines, _quoted(quotes, "see_whom")]).strip()


def _from_the_question(case: Case) -> bool:
    label = deciding_label(case)
    return label is None or level(label, case) != "emergency"


def _origin(case: Case, quotes: Sequence[Citation]) -> str:
    """Where the answer comes from, said last and always."""
    say = PHRASES[case.lang]
    reviewers = [quote.reviewed_by for quote in quotes]
    names = ", ".join(dict.fromkeys(name for name in reviewers if name))
    review = say.reviewed.format(names=names) if names and all(reviewers) else say.unreviewed
    asked = f"{say.question}\n\n" if case.question.strip() and case.thread is None else ""
    return f"{asked}{say.no_model} {review}"


def _quotes(case: Case) -> list[Citation]:
    """Statements, word for word: what it is, whom to see, what not to do, for the finding that decides.

    What it is also for the most probable finding. Of a picture in which nothing passes its threshold
    only what not to do is said: the rest could calm or alarm without reason.
    """
    if any(warning.code == "out_of_distribution" for warning in case.warnings):
        return []
    return [
        citation
        for label, topic in _wanted(case)
        for passage in case.passages
        if (passage.label, passage.topic) == (label, topic)
        for citation in _citations(passage)
    ]


def _wanted(case: Case) -> list[tuple[str, Topic]]:
    """The label and topic of what is quoted, in order."""
    label, main = deciding_label(case), deciding(case)
    if label is None:
        return []
    if main and not main.above_threshold:
        return [(label, "not_to_do")]
    top = next((finding.label for finding in ranked(case)[:1] if finding.above_threshold), label)
    what: list[tuple[str, Topic]] = [(one, "what") for one in dict.fromkeys([top, label])]
    return [*what, (label, "see_whom"), (label, "not_to_do")]


def _citations(passage: Passage) -> list[Citation]:
    return [
        Citation(
            id=passage.id,
            title=f"{quote.source.publisher}: {quote.source.title}",
            quote=quote.text,
            url=quote.source.url or None,
            reviewed_by=passage.reviewed_by or None,
        )
        for quote in passage.quotes
    ]


def _cited(passage_id: str, words: str, case: Case) -> list[Citation]:
    """The statement that a model's quote stands in, with its source."""
    for passage in (passage for passage in case.passages if passage.id == passage_id):
        first = next(
            (quote for quote in passage.quotes if loose(words) in loose(quote.text)), passage.quotes[0]
        )
        return [
            Citation(
                id=passage.id,
                title=f"{first.source.publisher}: {first.source.title}",
                quote=words,
                url=first.source.url or None,
                reviewed_by=passage.reviewed_by or None,
            )
        ]
    return []


def _near(passage: Passage, case: Case) -> str:
    """What comes near to the question, word for word, and out of which text."""
    say, source = PHRASES[case.lang], passage.quotes[0].source
    origin = (
        say.from_added.format(title=passage.title, source=source.publisher, date=passage.date.isoformat())
        if passage.added
        else say.nearest
    )
    return f"{origin} {passage.text}"


def _quoted(quotes: Sequence[Citation], topic: Topic) -> str:
    return " ".join(quote.quote for quote in quotes if quote.id.endswith(f"/{topic}"))
