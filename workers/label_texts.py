"""Our own short reference texts, one file for each label: what a file holds, and how it is read."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal, get_args

from shared.catalog import LANGUAGES, PIPELINES, Lang, Urgency

TEXTS = Path(__file__).parent / "texts"

Topic = Literal["what", "looks", "see_whom", "not_to_do"]
TOPICS: tuple[Topic, ...] = get_args(Topic)


class KnowledgeError(ValueError):
    """A reference text cannot be used; the message names the file and the field."""


@dataclass(frozen=True)
class Source:
    """A public page that statements rest on."""

    id: str
    publisher: str
    title: str
    url: str


@dataclass(frozen=True)
class Statement:
    """One fact in every language, and the source that says so."""

    topic: Topic
    source: Source
    texts: Mapping[Lang, str]


@dataclass(frozen=True)
class LabelText:
    """What we say about one label of one pipeline."""

    label: str
    title: Mapping[Lang, str]
    also: tuple[str, ...]  # further names by which a question may mean it
    department: Mapping[Lang, str]
    urgency: Urgency  # how soon to be seen when the label is above its threshold
    date: date
    reviewed_by: str  # empty until a clinician signs
    statements: tuple[Statement, ...]

    def about(self, topic: Topic) -> tuple[Statement, ...]:
        return tuple(statement for statement in self.statements if statement.topic == topic)


Library = Mapping[tuple[str, str], LabelText]  # by pipeline and label


def load(folder: Path) -> Library:
    """Read `sources.toml` and `<pipeline>/<label>.toml`.

    Raises: KnowledgeError naming the file and the field
    """
    sources = _load_sources(folder / "sources.toml")
    texts: dict[tuple[str, str], LabelText] = {}
    for path in sorted(folder.glob("*/*.toml")):
        name = path.parent.name
        if name not in PIPELINES:
            raise KnowledgeError(f"{path}: {name!r} is not a pipeline of the catalog")
        texts[name, path.stem] = _load_text(path, name, sources)
    return texts


def _load_sources(path: Path) -> dict[str, Source]:
    sources = {}
    for key in (tables := _read(path)):
        table = _Fields(path, _Fields(path, tables).table(key), f"{key}.")
        sources[key] = Source(key, table.text("publisher"), table.text("title"), table.text("url"))
        if not re.match(r"https?://[^\s/]+\S*$", sources[key].url):
            raise KnowledgeError(f"{path}: {key}.url must be an http(s) address")
        table.done()
    return sources


def _load_text(path: Path, pipeline: str, sources: Mapping[str, Source]) -> LabelText:
    fields = _Fields(path, _read(path))
    label = fields.choice("label", tuple(label.code for label in PIPELINES[pipeline].labels))
    if label != path.stem:
        raise KnowledgeError(f"{path}: label must be {path.stem!r}, as the file is named, not {label!r}")
    text = LabelText(
        label=label,
        title=fields.languages("title"),
        also=tuple(fields.texts("also")),
        department=fields.languages("department"),
        urgency=fields.choice("urgency", get_args(Urgency)),
        date=fields.date("date"),
        reviewed_by=fields.text("reviewed_by", empty=True),
        statements=tuple(_statement(table, sources) for table in fields.tables("statement")),
    )
    fields.done()
    return text


def _statement(fields: "_Fields", sources: Mapping[str, Source]) -> Statement:
    topic: Topic = fields.choice("topic", TOPICS)
    source = sources[fields.choice("source", tuple(sources))]
    statement = Statement(topic, source, {lang: fields.text(lang) for lang in LANGUAGES})
    fields.done()
    return statement


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise KnowledgeError(f"{path}: cannot be read: {error}") from None


class _Fields:
    """A table of a text file; every complaint names the file and the field."""

    def __init__(self, path: Path, values: dict[str, Any], prefix: str = "") -> None:
        self.path, self.values, self.prefix = path, dict(values), prefix

    def wrong(self, field: str, what: str) -> KnowledgeError:
        return KnowledgeError(f"{self.path}: {self.prefix}{field} {what}")

    def take(self, field: str) -> Any:
        if field not in self.values:
            raise self.wrong(field, "is missing")
        return self.values.pop(field)

    def text(self, field: str, empty: bool = False) -> str:
        value = self.take(field)
        if not isinstance(value, str) or not (empty or value.strip()):
            raise self.wrong(field, "must be a text" + ("" if empty else " that is not empty"))
        return value.strip()

    def texts(self, field: str) -> list[str]:
        value = self.take(field)
        if not isinstance(value, list) or not all(isinstance(v, str) and v.strip() for v in value):
            raise self.wrong(field, "must be a list of texts")
        return value

    def choice(self, field: str, choices: tuple[Any, ...]) -> Any:
        value = self.take(field)
        if value not in choices:
            raise self.wrong(field, f"must be one of {', '.join(map(str, choices))}, not {value!r}")
        return value

    def date(self, field: str) -> date:
        value = self.take(field)
        if type(value) is not date:
            raise self.wrong(field, "must be a date such as 2026-11-20")
        return value

    def table(self, field: str) -> dict[str, Any]:
        value = self.take(field)
        if not isinstance(value, dict):
            raise self.wrong(field, "must be a table")
        return value

    def tables(self, field: str) -> list["_Fields"]:
        value = self.take(field)
        if not isinstance(value, list) or not value or not all(isinstance(v, dict) for v in value):
            raise self.wrong(field, "must be one or more tables")
        return [_Fields(self.path, v, f"{field}[{i}].") for i, v in enumerate(value, 1)]

    def languages(self, field: str) -> dict[Lang, str]:
        inner = _Fields(self.path, self.table(field), f"{field}.")
        values: dict[Lang, str] = {lang: inner.text(lang) for lang in LANGUAGES}
        inner.done()
        return values

    def done(self) -> None:
        """Refuse what nobody asked for: it is most often a misspelt field."""
        for field in self.values:
            raise self.wrong(field, "is not a field of this file")
