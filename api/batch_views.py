"""Batches as clients see them: what was sent, how far it is, and where the rest of it is found."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from api import problems
from api.views import time_of
from shared import batches
from shared.batch_life import BATCH_TERMINAL
from shared.batch_schemas import Batch, BatchCounts, BatchUrls, RejectedEntry
from shared.batches import Counts
from shared.database import now_us
from shared.errors import ServiceError, by_slug
from shared.schemas import Problem
from shared.tables import BatchRow, RejectedRow


@dataclass(frozen=True)
class ShownBatch:
    """A batch as it is shown, and the tag of what is shown."""

    tag: str
    batch: Batch

    @property
    def ended(self) -> bool:
        """A batch is canceled at once, and its last jobs a moment later."""
        return self.batch.completed_at is not None


def show_batches(session: Session, rows: Sequence[BatchRow]) -> list[ShownBatch]:
    """Three statements for any number of batches."""
    found = batches.counts(session, [row.id for row in rows])
    clock_us = session.scalar(select(now_us())) or 0
    return [ShownBatch(_tag(row, found[row.id]), _batch(row, found[row.id], clock_us)) for row in rows]


def _tag(row: BatchRow, counts: Counts) -> str:
    """Changes with the row and with its jobs' counts, which change without it."""
    seen = f"{row.version} {sorted(counts.by_status.items())}"
    return hashlib.sha256(seen.encode()).hexdigest()[:16]


def _batch(row: BatchRow, counts: Counts, clock_us: int) -> Batch:
    url = f"/v1/batches/{row.id}"
    total = max(row.entries or 0, counts.total)
    return Batch.model_validate(
        {
            "id": row.id,
            "status": row.status,
            "counts": BatchCounts(**counts.by_status | {"total": total}),
            "progress": _progress(row, counts, total),
            "eta_s": None if row.status in BATCH_TERMINAL else batches.eta_s(row, counts, clock_us),
            "filename": row.filename,
            "media_type": row.media_type,
            "sha256": row.sha256,
            "size_bytes": row.size_bytes,
            "defaults": row.defaults,
            "rerun_of": row.rerun_of,
            "rerun_only": row.rerun_only,
            "error": _problem(row.error_slug, row.error_detail, url) if row.error_slug else None,
            "created_at": time_of(row.created_at),
            "completed_at": row.completed_at and time_of(row.completed_at),
            "urls": _urls(row.id, url),
        }
    )


def _progress(row: BatchRow, counts: Counts, total: int) -> float:
    """Of all entries; while nobody knows how many there are, none of them counts as done."""
    if row.completed_at is not None:
        return 1.0
    return round(counts.ended / total, 4) if total and row.entries is not None else 0.0


def _urls(batch_id: str, url: str) -> BatchUrls:
    results = f"{url}/results"
    return BatchUrls(
        self=url,
        jobs=f"/v1/jobs?batch_id={batch_id}",
        rejected=f"{url}/rejected",
        metrics=f"{url}/metrics",
        results_csv=f"{results}.csv",
        results_jsonl=f"{results}.jsonl",
        results_zip=f"{results}.zip",
        cancel=f"{url}/cancel",
        rerun=f"{url}/rerun",
    )


def rejected_entry(row: RejectedRow) -> RejectedEntry:
    problem = _problem(row.slug, row.detail, None)
    return RejectedEntry(
        entry=row.entry, name=row.name, problem=problem.model_copy(update={"errors": row.errors})
    )


def _problem(slug: str | None, detail: str | None, instance: str | None) -> Problem:
    cls = by_slug(slug or "") or ServiceError
    return problems.body(cls, detail or problems.describe(cls), instance=instance)
