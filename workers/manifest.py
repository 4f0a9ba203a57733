"""The manifest of an archive: what is asked of each file, kept outside of memory."""

import csv
import hashlib
import io
import json
import sqlite3
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, field_validator

from shared.asked import Asked
from shared.batches import NewRejected
from shared.catalog import PIPELINES
from shared.errors import FieldProblem, InvalidManifest, InvalidRequest, NotFound
from shared.schemas import clean_text
from workers.unpack import shown

NAMES = ("manifest.csv", "manifest.jsonl")
LARGEST_BYTES = 32 * 2**20
CUSTOM_ID_LIMIT = 255


class Row(Asked):
    """What may be asked of one file, beside whose it is and what it is known to be."""

    custom_id: Annotated[str, AfterValidator(clean_text), Field(max_length=CUSTOM_ID_LIMIT)] | None = None
    label: str | None = None

    @field_validator("label")
    @classmethod
    def label_of_the_pipeline(cls, label: str | None, info: ValidationInfo) -> str | None:
        pipeline = PIPELINES.get(info.data.get("pipeline", ""))
        codes = [known.code for known in pipeline.labels] if pipeline else []
        if label is not None and pipeline and label not in codes:
            raise ValueError(f"must be one of {', '.join(codes)}")
        return label


COLUMNS = ("filename", *Row.model_fields)


def row_of(values: dict[str, str]) -> Row:
    """Raises: InvalidRequest that names every wrong field"""
    try:
        return Row.model_validate(values)
    except ValidationError as error:
        problems = [
            FieldProblem(item["msg"].removeprefix("Value error, "), "/" + "/".join(map(str, item["loc"])))
            for item in error.errors(include_input=False, include_url=False, include_context=False)
        ]
        raise InvalidRequest("The manifest's row has a value that is not allowed.", errors=problems) from None


class Manifest:
    """Rows by file name, in a temporary database: a manifest may be far larger than a worker's memory.

    A row that cannot be used at all (no JSON, no file name, a second one for the same file) is a rejected
    entry by itself; so is, in the end, one whose file is not in the archive.
    """

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.execute(
            "CREATE TABLE rows (digest BLOB PRIMARY KEY, line INT, name TEXT, fields TEXT) STRICT"
        )
        self._db.execute("CREATE TABLE bad (line INTEGER PRIMARY KEY, name TEXT, detail TEXT) STRICT")
        self.empty = True

    def load(self, name: str, data: bytes, max_rows: int) -> None:
        """Take in a manifest; `name` is its own path in the archive, whose folder file names may leave out.

        Raises: InvalidManifest
        """
        if not self.empty:
            raise InvalidManifest("The archive has more than one manifest.")
        if len(data) > LARGEST_BYTES:
            raise InvalidManifest(f"The manifest has more than {LARGEST_BYTES:,} bytes.")
        self.empty = False
        folder = name.rpartition("/")[0]
        read = _read_jsonl if name.endswith(".jsonl") else _read_csv
        self._db.execute("BEGIN")
        for number, (line, given) in enumerate(read(data)):
            if number >= max_rows:
                raise InvalidManifest(f"The manifest has more than {max_rows:,} rows.")
            self._add(line, given, folder)
        self._db.execute("COMMIT")

    def _add(self, line: int, given: dict[str, str] | str, folder: str) -> None:
        if isinstance(given, str):
            self._bad(line, "", given)
            return
        name = given.pop("filename", "").removeprefix("./")
        if not name:
            self._bad(line, "", "The row names no file.")
            return
        if folder and not name.startswith(folder + "/"):
            name = f"{folder}/{name}"
        row = (digest(name), line, name, json.dumps(given))
        if not self._db.execute("INSERT OR IGNORE INTO rows VALUES (?, ?, ?, ?)", row).rowcount:
            self._bad(line, name, "The manifest has an earlier row for the same file.")

    def _bad(self, line: int, name: str, detail: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO bad VALUES (?, ?, ?)", (line, shown(name), detail))

    def fields(self, name: str) -> dict[str, str] | None:
        """What the manifest says of a file; None when it does not name it."""
        if self.empty:
            return None
        found = self._db.execute("SELECT fields FROM rows WHERE digest = ?", (digest(name),)).fetchone()
        return json.loads(found[0]) if found else None

    def rejected(self, seen: set[bytes], first: int) -> Iterator[NewRejected]:
        """Rows that led to nothing, in the manifest's order, numbered from `first`; `seen` are the files'."""
        query = (
            "SELECT line, name, detail, NULL FROM bad UNION ALL SELECT line, name, NULL, digest FROM rows "
            "ORDER BY line"
        )
        entry = first
        for line, name, detail, key in self._db.execute(query):
            if key is not None and key in seen:
                continue
            error = InvalidRequest(detail) if detail else NotFound("The archive has no such file.")
            where = f"{error.detail} (manifest, line {line})"
            yield NewRejected(entry, shown(name), error.slug, where)
            entry += 1

    def close(self) -> None:
        self._db.close()


def digest(name: str) -> bytes:
    """A name in eight bytes."""
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _text(data: bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline="")


def _read_csv(data: bytes) -> Iterator[tuple[int, dict[str, str] | str]]:
    """Line and cells that are not empty, or what is wrong with the row. Raises: InvalidManifest"""
    reader = csv.reader(_text(data), strict=True)
    try:
        header = next(reader, [])
        _check_columns(header)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                yield reader.line_num, f"The row has {len(cells)} cells and the header {len(header)}."
                continue
            pairs = zip(header, cells, strict=True)
            yield reader.line_num, {name: cell for name, cell in pairs if cell}
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidManifest(f"The manifest cannot be read after line {reader.line_num}: {error}.") from None


def _check_columns(header: list[str]) -> None:
    unknown = [name for name in header if name not in COLUMNS]
    if unknown or "filename" not in header or len(set(header)) < len(header):
        named = f"; {shown(unknown[0])[:64]!r} is unknown" if unknown else ""
        raise InvalidManifest(
            f"The manifest's first line must name its columns, each once, and `filename` among them{named}. "
            f"It may have: {', '.join(COLUMNS)}."
        )


def _read_jsonl(data: bytes) -> Iterator[tuple[int, dict[str, str] | str]]:
    """As `_read_csv`. Raises: InvalidManifest"""
    try:
        for number, line in enumerate(_text(data), start=1):
            if line.strip():
                yield number, _json_row(line)
    except UnicodeDecodeError as error:
        raise InvalidManifest(f"The manifest is not UTF-8: {error}.") from None


def _json_row(line: str) -> dict[str, str] | str:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return "The line is not JSON."
    if not isinstance(found, dict):
        return "The line is not a JSON object."
    if unknown := [name for name in found if name not in COLUMNS]:
        return f"{shown(unknown[0])[:64]!r} is no field of a manifest."
    return {name: _as_text(value) for name, value in found.items() if value not in (None, "")}


def _as_text(value: Any) -> str:
    """The same text that a form or a table would hold."""
    return value if isinstance(value, str) else json.dumps(value)
