"""How soon somebody should look: floors from the findings and from red flags, never from a language model."""

from collections.abc import Sequence
from typing import get_args

from shared.catalog import PIPELINES, Urgency
from shared.schemas import Finding
from workers.knowledge import measured_labels
from workers.phrases import PHRASES
from workers.prompt import Case
from workers.red_flags import RedFlag, red_flags

URGENCIES: tuple[Urgency, ...] = get_args(Urgency)  # most urgent first

UNDECIDED: Urgency = "routine"  # an unclear picture is looked at by somebody, it is never waved through
SELF_CARE_FROM = 0.9  # below this probability nobody is told to just watch
DOUBTS = frozenset({"low_quality", "out_of_distribution"})


def floor(case: Case) -> Urgency:
    """The urgency that no answer to this case may stay below."""
    return most_urgent([from_findings(case), *(flag.urgency for flag in danger(case))])


def danger(case: Case) -> list[RedFlag]:
    """The red flags of this question and of all before it, most urgent first: what was told once still counts."""
    asked = [*(turn.question for turn in case.thread or ()), case.question]
    flags = dict.fromkeys(flag for text in asked for flag in red_flags(text))
    return sorted(flags, key=lambda flag: URGENCIES.index(flag.urgency))


def from_findings(case: Case) -> Urgency:
    """The highest level over the labels above threshold and what was measured, and UNDECIDED when there is none.

    Less than UNDECIDED takes a clear finding in a picture that raised no doubts.
    """
    levels = [level(label, case) for label in (*(f.label for f in flagged(case)), *measured(case))]
    clear = any(finding.probability >= SELF_CARE_FROM for finding in flagged(case)) and not doubted(case)
    return most_urgent(levels if clear else [*levels, UNDECIDED])


def most_urgent(levels: Sequence[Urgency]) -> Urgency:
    return min(levels, key=URGENCIES.index)


def level(label: str, case: Case) -> Urgency:
    """How soon this label asks to be seen: its text's word, and never less than the catalog's."""
    levels = [p.urgency for p in case.passages if p.label == label and p.urgency][:1]
    known = (known for head in PIPELINES[case.pipeline].heads for known in head.labels)
    levels += [one.urgency for one in known if one.code == label and one.urgency]
    return most_urgent(levels or [UNDECIDED])


def ranked(case: Case) -> list[Finding]:
    return sorted(case.findings, key=lambda finding: (-finding.probability, finding.label))


def flagged(case: Case) -> list[Finding]:
    return [finding for finding in ranked(case) if finding.above_threshold]


def deciding(case: Case) -> Finding | None:
    """The finding that decides what to do: the most urgent above threshold, else the most probable."""
    if above := flagged(case):
        return min(above, key=lambda finding: URGENCIES.index(level(finding.label, case)))
    return next(iter(ranked(case)), None)


def measured(case: Case) -> list[str]:
    """What was outlined or graded, most urgent first, of a picture that nothing was named in."""
    if case.findings:
        return []
    found = measured_labels(case.pipeline, case.segments, case.grades)
    return sorted(found, key=lambda label: URGENCIES.index(level(label, case)))


def deciding_label(case: Case) -> str | None:
    """The label that decides what to do: of the finding that does, or the most urgent one that was measured."""
    main = deciding(case)
    return main.label if main else next(iter(measured(case)), None)


def department(case: Case) -> str | None:
    """Of the label that decides; None when there is none."""
    main = deciding_label(case)
    return next((passage.department for passage in case.passages if passage.label == main), None)


def doubted(case: Case) -> bool:
    return any(warning.code in DOUBTS for warning in case.warnings)


def percent(probability: float, case: Case) -> str:
    """Whole percent in words; never 0 or 100, which no classifier knows."""
    under, whole, over = PHRASES[case.lang].percent
    if probability < 0.01:
        return under
    return over if probability > 0.99 else whole.format(n=round(probability * 100))


def already_weighed(case: Case) -> str:
    """That age, sex or site are in the findings already, so that no reader weighs them again; empty when none is."""
    say = PHRASES[case.lang]
    names = ", ".join(say.told[name] for name in case.included)
    return say.included.format(names=names) if names else ""


def percent_of(finding: Finding, case: Case) -> str:
    """The number that a reply must give for a finding, without spaces, such as 81%."""
    shown = round(
        finding.probability, 4
    )  # as the prompt gives it; rounded from more places, 18.496 would be another
    return f"{min(max(round(shown * 100), 1), 99)}%"
