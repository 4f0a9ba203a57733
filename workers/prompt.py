"""Builds the messages for the language model out of a case and the plain files in workers/prompts."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar

from shared.catalog import PIPELINES, HeadKind, Lang, Urgency
from shared.schemas import Finding, Grade, Segment, Sex, Warning
from workers.knowledge import Passage

T = TypeVar("T")

TURNS_SHOWN, TURN_SHOWN = 6, 1_200  # of a thread: its last turns, and characters of each question and answer
REPLY_SHOWN = 4_000  # characters of a failed reply that its correction repeats
PROMPTS = Path(__file__).parent / "prompts"

Role = Literal["system", "user", "assistant"]
FileRole = Literal["system", "user"]
# What each file may and must use. A file that leaves one out is refused, so that nothing can drop out.
VARIABLES: Mapping[FileRole, frozenset[str]] = {
    "system": frozenset({"language", "names", "floor", "departments"}),
    "user": frozenset(
        {
            "question",
            "thread",
            "findings",
            "segments",
            "grades",
            "age",
            "sex",
            "site",
            "included",
            "warnings",
            "passages",
        }
    ),
}
LANGUAGE_NAMES: Mapping[Lang, str] = {"en": "English", "ko": "Korean (한국어)", "fr": "French (français)"}
NO_QUESTION: Mapping[Lang, str] = {
    "en": "Explain the findings.",
    "ko": "결과를 설명해 주세요.",
    "fr": "Expliquez les résultats.",
}

_HEADER = re.compile(r"---\nvariables: *([^\n]*)\n---\n")
_PLACE = re.compile(r"\{\{ *([^{} ]*) *\}\}")
# What could end a tag or a line, hide text or not be encoded at all is written as its JSON escape.
_UNSAFE = re.compile("[<>&\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class PromptError(ValueError):
    """A prompt file cannot be used; the message names the file and the variable."""


class Message(TypedDict):
    role: Role
    content: str


@dataclass(frozen=True)
class Turn:
    """What was asked before, and what was answered; an empty answer was none."""

    question: str
    answer: str


@dataclass(frozen=True)
class Case:
    """All that an answer may rest on."""

    pipeline: str
    question: str  # as the person wrote it; empty means: explain the findings
    lang: Lang
    age: int | None
    sex: Sex | None
    site: str | None
    findings: tuple[Finding, ...]
    warnings: tuple[Warning, ...]
    passages: tuple[Passage, ...]
    segments: tuple[Segment, ...] | None = None  # None: nobody looked for areas; empty: there are none
    grades: tuple[Grade, ...] | None = None
    included: tuple[str, ...] = ()  # of age, sex and site: what the findings rest on besides the picture
    thread: tuple[Turn, ...] | None = (
        None  # what was said before, the oldest first; None: this is the first question
    )


@dataclass(frozen=True)
class Prompt:
    """Messages ready to send, and the version of the files that made them."""

    name: str
    sha256: str
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Template:
    """A prompt file: text with {{variables}}, all of them declared in its header."""

    path: Path
    body: str
    variables: frozenset[str]

    def render(self, values: Mapping[str, str]) -> str:
        """Fill every place in one pass, so that braces inside a value stay what they are.

        Raises: PromptError naming a variable that has no value or no place
        """
        if missing := self.variables - values.keys():
            raise PromptError(f"{self.path}: no value for {_names(missing)}")
        if unknown := values.keys() - self.variables:
            raise PromptError(f"{self.path}: has no place for {_names(unknown)}")
        return _PLACE.sub(lambda place: values[place[1]], self.body)


def build_prompt(case: Case, folder: Path = PROMPTS, *, lowest: Urgency = "routine") -> Prompt:
    """The messages for a case, by the prompt that its pipeline names; `lowest` is its urgency's floor.

    Raises: PromptError if the prompt's files cannot be used
    """
    name = PIPELINES[case.pipeline].prompt
    templates, sha256 = load_prompt(name, folder)
    values: dict[FileRole, dict[str, str]] = {
        "system": _system_values(case, lowest),
        "user": _user_values(case),
    }
    messages = tuple(
        Message(role=role, content=template.render(values[role])) for role, template in templates.items()
    )
    return Prompt(name, sha256, messages)


def corrected(prompt: Prompt, reply: str, reasons: Sequence[str]) -> Prompt:
    """The same prompt with a reply that failed its checks, and why, for one more try."""
    again = (
        "Your reply was not shown to anybody, since it failed these checks:\n"
        + "\n".join(f"- {_data(reason)}" for reason in reasons)
        + "\nWrite the whole JSON object again without these faults. All rules hold as before."
    )
    said = Message(role="assistant", content=_data(reply[:REPLY_SHOWN]))
    return replace(prompt, messages=(*prompt.messages, said, Message(role="user", content=again)))


@cache
def load_prompt(name: str, folder: Path = PROMPTS) -> tuple[Mapping[FileRole, Template], str]:
    """The files of a prompt, read once, and one sha256 over all of them.

    Raises: PromptError
    """
    paths: dict[FileRole, Path] = {role: folder / f"{name}.{role}.md" for role in VARIABLES}
    try:
        contents = {role: path.read_bytes() for role, path in paths.items()}
        texts = {role: content.decode() for role, content in contents.items()}
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"prompt {name!r} cannot be read: {error}") from None
    sha256 = hashlib.sha256(b"\0".join(contents.values())).hexdigest()
    return {role: _template(paths[role], text, VARIABLES[role]) for role, text in texts.items()}, sha256


def _template(path: Path, text: str, required: frozenset[str]) -> Template:
    header = _HEADER.match(text)
    if header is None:
        raise PromptError(f"{path}: must begin with ---, variables: a, b, and ---")
    declared = {name.strip() for name in header[1].split(",")} - {""}
    body = text[header.end() :].strip()
    used = {place[1] for place in _PLACE.finditer(body)}
    if undeclared := used - declared:
        raise PromptError(f"{path}: uses {_names(undeclared)}, which its header does not declare")
    if unused := declared - used:
        raise PromptError(f"{path}: declares {_names(unused)}, and does not use it")
    if dropped := required - used:
        raise PromptError(f"{path}: leaves out {_names(dropped)}, which every prompt must hold")
    if unknown := used - required:
        raise PromptError(f"{path}: uses {_names(unknown)}, which nothing fills")
    return Template(path, body, frozenset(used))


def _system_values(case: Case, lowest: Urgency) -> dict[str, str]:
    labels = PIPELINES[case.pipeline].labels
    return {
        "language": LANGUAGE_NAMES[case.lang],
        "names": _data({label.code: label.name(case.lang) for label in labels}),
        "floor": lowest,
        "departments": _data(list(dict.fromkeys(p.department for p in case.passages if p.department))),
    }


def _user_values(case: Case) -> dict[str, str]:
    question = case.question if case.question.strip() else NO_QUESTION[case.lang]
    ranked = sorted(case.findings, key=lambda finding: (-finding.probability, finding.label))
    return {
        "question": _data(question),
        "thread": _data([_turn(turn) for turn in (case.thread or ())[-TURNS_SHOWN:]]),
        "findings": _data([_finding(finding, case) for finding in ranked]),
        "segments": _data(_each(case.segments, partial(_segment, case))),
        "grades": _data(_each(case.grades, partial(_grade, case))),
        "age": _data(case.age),
        "sex": _data(case.sex),
        "site": _data(case.site),
        "included": _data(list(case.included)),
        "warnings": _data([{"code": w.code, "detail": w.detail} for w in case.warnings]),
        "passages": _data([_passage(passage) for passage in case.passages]),
    }


def _turn(turn: Turn) -> dict[str, str]:
    """The beginning of an answer says what matters; a long thread must not crowd out the passages."""
    return {"asked": turn.question[:TURN_SHOWN], "answered": turn.answer[:TURN_SHOWN]}


def _finding(finding: Finding, case: Case) -> dict[str, Any]:
    """The name comes from the catalog and never from the stored finding: a label has one name."""
    return {
        "label": finding.label,
        "name": PIPELINES[case.pipeline].label(finding.label).name(case.lang),
        "probability": round(finding.probability, 4),
        "above_threshold": finding.above_threshold,
    }


def _each(found: Sequence[T] | None, shape: Callable[[T], dict[str, Any]]) -> list[dict[str, Any]] | None:
    """None stays None: that nobody looked is something else than that nothing is there."""
    return None if found is None else [shape(one) for one in found]


def _segment(case: Case, segment: Segment) -> dict[str, Any]:
    """Where an area lies and how large it is, in words and numbers that a reader can use."""
    return {
        "label": segment.label,
        "name": _name(case, "segment", segment.label),
        "percent_of_the_picture": round(100 * segment.area_fraction, 1),
        "position": segment.position,
        "mean_probability": round(segment.mean_probability, 4),
    }


def _grade(case: Case, grade: Grade) -> dict[str, Any]:
    head = next(head for head in PIPELINES[case.pipeline].heads if head.kind == "grade")
    return {
        "condition": grade.condition,
        "name": _name(case, "grade", grade.condition),
        "grade": grade.grade,
        "grade_name": head.grades[grade.grade].name(case.lang),
        "probability": round(grade.probabilities[grade.grade], 4),
    }


def _name(case: Case, kind: HeadKind, code: str) -> str:
    """As of a finding: the name comes from the catalog."""
    heads = (head for head in PIPELINES[case.pipeline].heads if head.kind == kind)
    return next(label.name(case.lang) for head in heads for label in head.labels if label.code == code)


def _passage(passage: Passage) -> dict[str, Any]:
    return {
        "id": passage.id,
        "title": passage.title,
        "text": passage.text,
        "sources": [source.id for source in passage.sources],
        "date": passage.date.isoformat(),
        "reviewed_by": passage.reviewed_by or None,
    }


def _data(value: object) -> str:
    """JSON that stays inside its tag, whatever a stranger wrote; decoding it gives the value back."""
    text = json.dumps(value, ensure_ascii=False)
    return _UNSAFE.sub(lambda char: f"\\u{ord(char[0]):04x}", text)


def _names(names: frozenset[str] | set[str]) -> str:
    return ", ".join(sorted(names))
