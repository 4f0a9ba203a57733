"""What may be asked of a picture: a job's fields, strictly parsed from text, whether a form or a manifest has it."""

import json
import re
import unicodedata
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from shared.catalog import DEFAULT_PIPELINE, PIPELINES, Lang
from shared.schemas import (
    METADATA_LIMIT_BYTES,
    QUESTION_LIMIT,
    AnswerWhen,
    Explain,
    Request,
    Sex,
    Text,
    clean_text,
)

DEEPEST_METADATA = 8
LARGEST_INTEGER = 2**63 - 1  # what every database's JSON keeps exactly
LONGEST_DEADLINE_S = 30 * 24 * 3600
FILENAME_LIMIT = 255
# They turn the reading direction, so that a name can pretend to be another.
BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def whole_number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError("must be a whole number in digits")
    return int(text)


def decimal(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise ValueError("must be a number in digits")
    return float(text)


def true_or_false(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("must be true or false")
    return text == "true"


def json_object(text: str) -> dict[str, Any]:
    """A small JSON object that every database gives back as it was."""
    if len(text.encode()) > METADATA_LIMIT_BYTES:
        raise ValueError(f"must not be longer than {METADATA_LIMIT_BYTES:,} bytes")
    try:
        found = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_repeats)
    except RecursionError:
        raise ValueError(f"must not be nested deeper than {DEEPEST_METADATA}") from None
    except ValueError as error:
        raise ValueError(f"must be JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError("must be a JSON object")
    _check_json(found, DEEPEST_METADATA)
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a name stands twice in an object")
    return dict(pairs)


def _check_json(value: Any, depth: int) -> None:
    if depth < 0:
        raise ValueError(f"must not be nested deeper than {DEEPEST_METADATA}")
    if isinstance(value, str):
        clean_text(value)
    elif isinstance(value, float) and abs(value) == float("inf"):
        raise ValueError("holds a number that is too large")
    elif isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        raise ValueError("holds an integer of more than 64 bits")
    elif isinstance(value, dict):
        for name, item in value.items():
            clean_text(name)
            _check_json(item, depth - 1)
    elif isinstance(value, list):
        for item in value:
            _check_json(item, depth - 1)


def known_pipeline(name: str) -> str:
    if name not in PIPELINES:
        raise ValueError(f"must be one of {', '.join(PIPELINES)}")
    return name


class Asked(Request):
    """What is asked of one picture, or by default of every entry of an archive."""

    pipeline: Annotated[str, AfterValidator(known_pipeline)] = DEFAULT_PIPELINE
    question: Annotated[Text, Field(max_length=QUESTION_LIMIT)] = ""
    lang: Lang | None = None
    age: Annotated[int, BeforeValidator(whole_number), Field(ge=0, le=120)] | None = None
    sex: Sex | None = None
    site: Text | None = None
    explain: Explain = "none"
    webhook_url: Text | None = None
    webhook_events: Literal["completed", "stage"] = "completed"
    expires_in_s: Annotated[float, BeforeValidator(decimal), Field(gt=0, le=LONGEST_DEADLINE_S)] | None = None
    metadata: Annotated[dict[str, Any], BeforeValidator(json_object)] | None = None
    answer: AnswerWhen = "auto"
    frame: Annotated[int, BeforeValidator(whole_number), Field(ge=1)] | None = None
    external: Annotated[bool, BeforeValidator(true_or_false)] = True

    @field_validator("site")
    @classmethod
    def site_of_the_pipeline(cls, site: str | None, info: ValidationInfo) -> str | None:
        pipeline = PIPELINES.get(info.data.get("pipeline", ""))
        if site is not None and pipeline and site not in pipeline.sites:
            known = ", ".join(pipeline.sites)
            raise ValueError(f"must be one of {known}" if known else "this pipeline knows no body sites")
        return site

    @field_validator("explain")
    @classmethod
    def explanation_of_findings(cls, explain: Explain, info: ValidationInfo) -> Explain:
        pipeline = PIPELINES.get(info.data.get("pipeline", ""))
        if explain != "none" and pipeline and pipeline.classifier is None:
            raise ValueError(
                "this pipeline classifies nothing that could be explained; its mask shows what it saw"
            )
        return explain


def clean_filename(name: str) -> str | None:
    """The last part of a path, without control characters; a label for people, never used as a path."""
    name = re.split(r"[/\\]", name)[-1]
    if name.isascii() and name.isprintable():
        return name.strip()[:FILENAME_LIMIT] or None
    kept = (
        char for char in name if unicodedata.category(char) not in ("Cc", "Cs") and char not in BIDI_CONTROLS
    )
    return "".join(kept).strip()[:FILENAME_LIMIT] or None
