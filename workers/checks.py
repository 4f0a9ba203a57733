"""The checks that a language model's reply passes before anybody reads it; one that fails withholds it all.

Each check answers with what is wrong, in words that the model is told when it is asked once more. They are
written so that a reply says nothing beyond findings, passages and our own phrases: a sentence that has no
support there is refused, whatever it says.
"""

from collections.abc import Callable, Mapping

from shared.schemas import Check
from workers.grounding import unsupported
from workers.prompt import Case
from workers.reply import Reply
from workers.said import (
    calming,
    certain,
    foreign,
    labels_named,
    labels_told,
    loose,
    numbers_outside,
    of_treatment,
    other_diseases,
    postponing,
    repeated,
)
from workers.urgency import URGENCIES, deciding, department, floor, percent_of

SHORTEST_QUOTE = {"en": 20, "fr": 20, "ko": 10}  # characters; less would fit into almost any passage
ALARM = URGENCIES.index("within_days")  # sooner than this only red flags ask for

Checker = Callable[[Case, Reply], str | None]


def check_language(case: Case, reply: Reply) -> str | None:
    """The reply is in the person's language."""
    return next(
        (
            f"this is not in the language asked for: {text!r}"
            for text in reply.prose
            if foreign(text, case.lang)
        ),
        None,
    )


def check_citations(case: Case, reply: Reply) -> str | None:
    """Every citation names a passage, and its quote stands there word for word."""
    passages = {passage.id: loose(passage.text) for passage in case.passages}
    for cited in reply.citations:
        if cited.id not in passages:
            return f"there is no passage {cited.id!r}"
        if len(cited.quote) < SHORTEST_QUOTE[case.lang] or loose(cited.quote) not in passages[cited.id]:
            return f"the quote is not in {cited.id}, or too short: {cited.quote!r}"
    return None


def check_finding(case: Case, reply: Reply) -> str | None:
    """The finding that decides is named in what the picture suggests, with its own percentage."""
    main = deciding(case)
    if main is None or main.label not in labels_named(reply.suggests, case):
        return "suggests must name the most important finding above its threshold"
    if percent_of(main, case) not in loose(f"{reply.suggests} {reply.answer}").replace(" ", ""):
        return f"the percentage of {main.label} must be said as {percent_of(main, case)}"
    return None


def check_labels(case: Case, reply: Reply) -> str | None:
    """What the picture suggests names only findings above their threshold; the rest only what passages speak of."""
    flagged = {finding.label for finding in case.findings if finding.above_threshold}
    if wrong := labels_named(reply.suggests, case) - flagged:
        return f"suggests names {', '.join(sorted(wrong))}, which is not above its threshold"
    known = {passage.label for passage in case.passages} | flagged | labels_told(case)
    if wrong := labels_named(" ".join(reply.prose), case) - known:
        return f"no passage speaks of {', '.join(sorted(wrong))}"
    others = (word for text in reply.prose for word in other_diseases(text, case))
    return next((f"nothing speaks of {word}" for word in others), None)


def check_numbers(case: Case, reply: Reply) -> str | None:
    """Every number is a finding's percentage or stands in a passage."""
    return next(
        (
            f"nothing gives the number {number}"
            for text in reply.prose
            for number in numbers_outside(text, case)
        ),
        None,
    )


def check_treatment(case: Case, reply: Reply) -> str | None:
    """No drug, dose or home treatment that no passage has."""
    return next(
        (f"do not speak of treatment: {word}" for text in reply.prose for word in of_treatment(text, case)),
        None,
    )


def check_urgency(case: Case, reply: Reply) -> str | None:
    """Never below the floor of findings and red flags, and no alarm without a red flag."""
    level, lowest = URGENCIES.index(reply.urgency), URGENCIES.index(floor(case))
    if level > lowest:
        return f"urgency must be {floor(case)} or sooner"
    if level < min(ALARM, lowest):
        return f"nothing here is a reason for {reply.urgency}"
    return None


def check_calm(case: Case, reply: Reply) -> str | None:
    """No word of comfort that the passage about the deciding finding does not say."""
    return next((f"do not calm: {words}" for text in reply.prose for words in calming(text, case)), None)


def check_delay(case: Case, reply: Reply) -> str | None:
    """No advice to wait or to stay away from a doctor."""
    return next(
        (f"do not advise waiting: {words}" for text in reply.prose for words in postponing(text, case)), None
    )


def check_certainty(case: Case, reply: Reply) -> str | None:
    """A classifier's hint is never called a certainty."""
    return next(
        (f"nothing is certain: {words}" for text in reply.prose for words in certain(text, case)), None
    )


def check_department(case: Case, reply: Reply) -> str | None:
    """The department is the one that the texts name, or none."""
    if reply.department not in (None, "", department(case)):
        return f"department must be {department(case)!r} or null"
    return None


def check_repetition(case: Case, reply: Reply) -> str | None:
    """No stammering, as models do that have lost the thread."""
    return next(
        (f"do not repeat yourself: {words}" for text in reply.prose if (words := repeated(text))), None
    )


def check_grounding(case: Case, reply: Reply) -> str | None:
    """Every sentence is supported by a passage, a finding or a phrase of ours."""
    return next(
        (f"no passage supports: {text!r}" for prose in reply.prose for text in unsupported(prose, case)), None
    )


CHECKS: Mapping[str, Checker] = {
    "language": check_language,
    "citations": check_citations,
    "finding": check_finding,
    "labels": check_labels,
    "numbers": check_numbers,
    "treatment": check_treatment,
    "urgency": check_urgency,
    "calm": check_calm,
    "delay": check_delay,
    "certainty": check_certainty,
    "department": check_department,
    "repetition": check_repetition,
    "grounding": check_grounding,
}


def run(case: Case, reply: Reply) -> tuple[list[Check], list[str]]:
    """Every check with its outcome, and what the failed ones have to say."""
    reasons = {name: checker(case, reply) for name, checker in CHECKS.items()}
    outcomes = [Check(name=name, passed=reason is None) for name, reason in reasons.items()]
    return outcomes, [f"{name}: {reason}" for name, reason in reasons.items() if reason is not None]
