"""Files of text that an operator adds: a few lines that say what it is, then Markdown or plain text.

Whoever wrote them, they are checked as if a stranger had: they end in prompts and before readers' eyes.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

from shared.catalog import LANGUAGES, Lang
from shared.language import detect
from shared.sentences import whole_sentences

SUFFIXES = (".md", ".markdown", ".txt")
LARGEST_BYTES = 512 * 1024
MOST_FILES = 1_000
MOST_PASSAGES = 500  # of one file
LONGEST_LINE = 200  # characters of a title or source
PASSAGE = 600  # characters that neighbouring paragraphs fill a passage up to
LONGEST_PASSAGE = 1_000
REQUIRED = ("title", "source", "date")
OPTIONAL = ("url", "lang")

_HEADER = re.compile(r"\s*---[ \t]*\n(.*?)\n---[ \t]*(?:\n|$)", re.S)
_KEPT = "\n\t"
_MARKDOWN = MarkdownIt("commonmark", {"html": False})


class TextFileError(ValueError):
    """A file cannot be added; the message names it and says why."""


@dataclass(frozen=True)
class NewText:
    """One file's text, cut into passages."""

    file: str  # its path within the folder
    sha256: str  # of its bytes
    title: str
    source: str
    url: str | None
    date: date
    lang: Lang
    passages: tuple[str, ...]


def read_folder(folder: Path) -> tuple[list[NewText], list[str]]:
    """Every text of a folder and of the folders in it, and what is wrong with the others.

    Links are not followed. Files of other kinds are left alone.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES]
    if not files:
        return [], [f"{folder}: no file ends in {', '.join(SUFFIXES)}"]
    if len(files) > MOST_FILES:
        return [], [f"{folder}: {len(files)} files; {MOST_FILES} is the most"]
    texts, faults = [], []
    for path in files:
        try:
            # A name need not be valid UTF-8.
            name = str(path.relative_to(folder)).encode("utf-8", "backslashreplace").decode()
            texts.append(read_file(path, name))
        except TextFileError as error:
            faults.append(str(error))
    return texts, faults


def read_file(path: Path, name: str) -> NewText:
    """Raises: TextFileError"""
    if path.is_symlink() or not path.is_file():
        raise TextFileError(f"{name}: is not a plain file")
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise TextFileError(f"{name}: cannot be read: {error.strerror}") from None
    return parse(content, name, markdown=path.suffix.lower() != ".txt")


def parse(content: bytes, name: str, *, markdown: bool = True) -> NewText:
    """A file's bytes to its text.

    Raises: TextFileError naming the file and the field
    """
    if len(content) > LARGEST_BYTES:
        raise TextFileError(f"{name}: has more than {LARGEST_BYTES} bytes")
    text = _clean(content, name)
    fields, body = _header(text, name)
    passages = tuple(_passages(_markdown(body) if markdown else re.split(r"\n\s*\n", body)))
    if not passages:
        raise TextFileError(f"{name}: has no text after its header")
    if len(passages) > MOST_PASSAGES:
        raise TextFileError(f"{name}: has {len(passages)} passages; {MOST_PASSAGES} is the most")
    return NewText(
        file=name[-255:],
        sha256=hashlib.sha256(content).hexdigest(),
        title=_line(fields, "title", name),
        source=_line(fields, "source", name),
        url=_url(fields.get("url"), name),
        date=_date(fields["date"], name),
        lang=_lang(fields.get("lang"), " ".join(passages), name),
        passages=passages,
    )


def _clean(content: bytes, name: str) -> str:
    """Text without what nobody can see: characters of no width are dropped, those that hide or turn text are refused."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextFileError(f"{name}: is not UTF-8 (byte {error.start})") from None
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    for char in sorted(set(text) - set(_KEPT)):
        kind = unicodedata.category(char)
        turns = unicodedata.bidirectional(char) in (
            "LRE",
            "RLE",
            "LRO",
            "RLO",
            "PDF",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        )
        if turns or kind in ("Cc", "Cn", "Co", "Cs", "Zl", "Zp"):
            raise TextFileError(f"{name}: holds the character U+{ord(char):04X}, which readers cannot see")
        if kind == "Cf":
            text = text.replace(char, "")
    return text


def _header(text: str, name: str) -> tuple[dict[str, str], str]:
    """The lines between --- and ---, as `key: value`, and what follows."""
    header = _HEADER.match(text)
    if header is None:
        raise TextFileError(f"{name}: must begin with ---, title: …, source: …, date: 2026-01-31, and ---")
    fields: dict[str, str] = {}
    for line in filter(str.strip, header[1].split("\n")):
        key, colon, value = (part.strip() for part in line.partition(":"))
        if not colon or key not in REQUIRED + OPTIONAL:
            raise TextFileError(
                f"{name}: {line.strip()[:60]!r} is not one of {', '.join(REQUIRED + OPTIONAL)}"
            )
        if key in fields:
            raise TextFileError(f"{name}: {key} stands twice")
        fields[key] = value.strip("\"'")
    for key in REQUIRED:
        if not fields.get(key):
            raise TextFileError(f"{name}: {key} is missing")
    return fields, text[header.end() :]


def _line(fields: dict[str, str], key: str, name: str) -> str:
    if len(fields[key]) > LONGEST_LINE:
        raise TextFileError(f"{name}: {key} has more than {LONGEST_LINE} characters")
    return fields[key]


def _url(value: str | None, name: str) -> str | None:
    if not value:
        return None
    wrong = TextFileError(f"{name}: url must be an http(s) address of at most 2000 ASCII characters")
    try:
        parts = urlsplit(value)
    except ValueError:
        raise wrong from None
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or re.search(r"[^!-~]", value)
        or len(value) > 2000
    ):
        raise wrong
    return value


def _date(value: str, name: str) -> date:
    try:
        when = date.fromisoformat(value)
    except ValueError:
        raise TextFileError(f"{name}: date must be a date such as 2026-01-31, not {value[:40]!r}") from None
    if not date(1900, 1, 1) <= when <= date.today() + timedelta(days=1):
        raise TextFileError(f"{name}: date must lie between 1900 and today, not {value}")
    return when


def _lang(value: str | None, text: str, name: str) -> Lang:
    if value is None:
        return detect(text)
    if value not in LANGUAGES:
        raise TextFileError(f"{name}: lang must be one of {', '.join(LANGUAGES)}, not {value[:40]!r}")
    return value


def _markdown(body: str) -> Iterator[str]:
    """Paragraphs without markup: links leave their words, pictures nothing."""
    for token in _MARKDOWN.parse(body):
        if token.type in ("fence", "code_block"):
            yield token.content
        elif token.type == "inline":
            yield "".join(_plain(child) for child in token.children or ())


def _plain(child: Token) -> str:
    if child.type in ("softbreak", "hardbreak"):
        return " "
    return child.content if child.type in ("text", "code_inline", "text_special") else ""


def _passages(paragraphs: Sequence[str] | Iterator[str]) -> Iterator[str]:
    """Neighbouring paragraphs together, long ones in pieces that end with a sentence where they can."""
    held = ""
    for piece in (piece for paragraph in paragraphs for piece in _pieces(" ".join(paragraph.split()))):
        if held and len(held) + len(piece) >= PASSAGE:
            yield held
            held = ""
        held = f"{held}\n{piece}" if held else piece
    if held:
        yield held


def _pieces(paragraph: str) -> Iterator[str]:
    if len(paragraph) <= PASSAGE:
        yield from [paragraph] if paragraph else []
        return
    for sentence in whole_sentences(paragraph):
        while sentence:
            yield sentence[:LONGEST_PASSAGE]
            sentence = sentence[LONGEST_PASSAGE:]
