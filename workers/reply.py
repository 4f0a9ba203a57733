"""What a language model has to write: one JSON object of fixed shape, read strictly."""

import json
import re
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.catalog import Urgency

SCHEMA_NAME = "answer"
_FENCE = re.compile(r"^```(?:json)?\s*(\{.*\})\s*```$", re.S)
# A model that thinks aloud does so before its answer.
_THOUGHT = re.compile(r"^\s*<think>.*?</think>", re.S)

Line = Annotated[str, Field(min_length=1, max_length=600)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Cited(_Strict):
    """A passage by its id, and words of it."""

    id: Annotated[str, Field(min_length=1, max_length=200)]
    quote: Annotated[str, Field(min_length=1, max_length=1_000)]


class Reply(_Strict):
    """The fields that a language model fills in; the order is the one that it writes them in."""

    suggests: Line
    answer: Annotated[str, Field(min_length=20, max_length=4_000)]
    urgency: Urgency
    next_step: Line
    department: Annotated[str, Field(max_length=100)] | None
    cannot_tell: Annotated[list[Line], Field(min_length=1, max_length=6)]
    citations: Annotated[list[Cited], Field(min_length=1, max_length=12)]

    @property
    def prose(self) -> tuple[str, ...]:
        """Everything that a reader would see of it."""
        return (self.suggests, self.answer, self.next_step, *self.cannot_tell)


class NotAReply(ValueError):
    """The text is not the JSON object that was asked for; the message says what is wrong, for the model."""


def parse(text: str) -> Reply:
    """Raises: NotAReply"""
    bare = _THOUGHT.sub("", text).strip()
    fenced = _FENCE.match(bare)
    try:
        return Reply.model_validate(json.loads(fenced[1] if fenced else bare))
    except ValidationError as error:
        first = error.errors()[0]
        raise NotAReply(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (ValueError, RecursionError):
        raise NotAReply("it is not one JSON object") from None


@cache
def response_format() -> dict[str, Any]:
    """As OpenAI's chat completions and servers that follow them take it; one object for all calls."""
    schema = _inlined(Reply.model_json_schema())
    return {
        "type": "json_schema",
        "json_schema": {"name": SCHEMA_NAME, "strict": True, "schema": schema},
    }


# What OpenAI's strict mode does not know; the reply is read by the full rules anyhow.
_UNKNOWN = frozenset({"title", "description", "maxLength", "minLength", "maxItems", "minItems", "default"})


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without references, every field required."""
    definitions = schema.pop("$defs", {})

    def walk(node: Any) -> Any:
        if isinstance(node, list):
            return [walk(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return walk(definitions[node["$ref"].rsplit("/", 1)[1]])
        if "properties" in node:
            fields = {name: walk(field) for name, field in node["properties"].items()}
            return {
                "type": "object",
                "properties": fields,
                "required": list(fields),
                "additionalProperties": False,
            }
        return {key: walk(value) for key, value in node.items() if key not in _UNKNOWN}

    walked: dict[str, Any] = walk(schema)
    return walked
