"""Results as a table: which columns a batch has, and cells that no spreadsheet takes for a formula."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.views import status_of
from shared.catalog import PIPELINES
from shared.lifecycle import Status

CHUNK_CHARACTERS = 64 * 1024
BOM = "\ufeff"  # by which Excel knows UTF-8

# A spreadsheet takes a cell that begins with one of these for a formula. Source: OWASP, CSV Injection.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")

FIRST = (
    "entry", "filename", "custom_id", "job_id", "pipeline", "status", "true_label", "finding", "probability",
    "above_threshold",
)  # fmt: skip
LAST = (
    "answer", "urgency", "error", "error_detail", "warnings", "question", "lang", "age", "sex", "site", "model",
)  # fmt: skip
OLD = ("old_job_id", "old_status", "old_finding", "old_probability", "changed")


@dataclass(frozen=True)
class Columns:
    """The labels of the pipelines that stand in a batch, by what their heads say of them."""

    probabilities: tuple[str, ...] = ()
    grades: tuple[str, ...] = ()
    areas: tuple[str, ...] = ()

    @classmethod
    def of(cls, pipelines: Iterable[str]) -> "Columns":
        found: dict[str, dict[str, None]] = {"classify": {}, "grade": {}, "segment": {}}
        for name in pipelines:
            for head in PIPELINES[name].heads:
                found[head.kind] |= {label.code: None for label in head.labels}
        return cls(tuple(found["classify"]), tuple(found["grade"]), tuple(found["segment"]))

    @property
    def header(self) -> list[str]:
        return [
            *FIRST,
            *(f"p_{code}" for code in self.probabilities),
            *(f"grade_{code}" for code in self.grades),
            *(f"area_{code}" for code in self.areas),
            *LAST,
        ]

    @property
    def difference_header(self) -> list[str]:
        kinds = ("old_p", "diff_p")
        return [*OLD, *(f"{kind}_{code}" for kind in kinds for code in self.probabilities)]

    def cells(self, row: Any) -> list[Any]:
        """What stands in the row of a job; nothing where nothing is known."""
        p = probabilities(row)
        grades = {grade["condition"]: grade["grade"] for grade in row.grades or ()}
        areas = {segment["label"]: segment["area_fraction"] for segment in row.segments or ()}
        answer, top = row.answer or {}, first(row)
        above = [f["label"] for f in row.findings or () if f["above_threshold"]]
        return [
            row.entry, row.entry_name or row.filename, row.custom_id, row.id, row.pipeline, status_of(row),
            row.true_label, top, p.get(top or ""), " ".join(above),
            *(p.get(code) for code in self.probabilities),
            *(grades.get(code) for code in self.grades),
            *(areas.get(code) for code in self.areas),
            answer.get("text"), answer.get("urgency"), *_error(row),
            " ".join(warning["code"] for warning in row.warnings or ()),
            row.question, row.lang, row.age, row.sex, row.site, (row.model or {}).get("version"),
        ]  # fmt: skip

    def difference(self, row: Any, old: Any | None) -> list[Any]:
        """What another batch found in the same picture, and how far that is from this."""
        if old is None:
            return [None] * len(self.difference_header)
        now, then = probabilities(row), probabilities(old)
        tops = (first(row), first(old))
        changed = None if None in tops else str(tops[0] != tops[1]).lower()
        return [
            old.id, status_of(old), tops[1], then.get(tops[1] or ""), changed,
            *(then.get(code) for code in self.probabilities),
            *(now[code] - then[code] if code in now and code in then else None for code in self.probabilities),
        ]  # fmt: skip


def probabilities(row: Any) -> dict[str, float]:
    return {finding["label"]: finding["probability"] for finding in row.findings or ()}


def first(row: Any) -> str | None:
    """The label that is most probable; findings are ordered so."""
    return row.findings[0]["label"] if row.findings else None


def _error(row: Any) -> tuple[str | None, str | None]:
    """Only of a failed job: one that is tried again still bears the error of its last attempt."""
    return (row.error_slug, row.error_detail) if row.status == Status.FAILED else (None, None)


def defused(cell: Any) -> Any:
    """Text that begins like a formula gets an apostrophe before it; numbers stay numbers."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) else cell


def table(header: Sequence[str], rows: Iterable[Sequence[Any]], *, bom: bool = False) -> Iterator[bytes]:
    """RFC 4180 in UTF-8. Every text is quoted, so that no semicolon ends a cell where it separates them."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC)
    out.write(BOM if bom else "")
    writer.writerow(header)
    for row in rows:
        writer.writerow([defused(cell) for cell in row])
        if out.tell() >= CHUNK_CHARACTERS:
            yield _taken(out)
    yield _taken(out)


def _taken(out: io.StringIO) -> bytes:
    text = out.getvalue()
    out.seek(0)
    out.truncate()
    return text.encode()


def fields_of(errors: Iterable[Mapping[str, str]] | None) -> str:
    return "; ".join(f"{error['pointer']}: {error['detail']}" for error in errors or ())
