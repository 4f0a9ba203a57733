"""Bodies of batches: what an archive became, what was rejected, how good the findings were."""

from datetime import datetime
from typing import Any, Literal

from shared.schemas import Body, Problem, Request

BatchStatus = Literal["receiving", "running", "completed", "canceled", "failed"]
RerunOnly = Literal["failed", "all"]


class BatchCounts(Body):
    """Jobs by status, as clients see it; `total` is the entries that were read so far."""

    total: int = 0
    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    expired: int = 0
    rejected: int = 0


class BatchUrls(Body):
    self: str
    jobs: str
    rejected: str
    metrics: str
    results_csv: str
    results_jsonl: str
    results_zip: str
    cancel: str
    rerun: str


class Batch(Body):
    """Jobs that were submitted together, and how far they are."""

    id: str
    status: BatchStatus
    counts: BatchCounts
    progress: float
    eta_s: float | None
    filename: str | None
    media_type: str | None
    sha256: str | None
    size_bytes: int | None
    defaults: dict[str, Any]
    rerun_of: str | None
    rerun_only: RerunOnly | None
    error: Problem | None
    created_at: datetime
    completed_at: datetime | None
    urls: BatchUrls


class BatchList(Body):
    items: list[Batch]
    next: str | None


class RejectedEntry(Body):
    """An entry of the archive that became no job; `name` is shown escaped where it cannot be shown."""

    entry: int
    name: str
    problem: Problem


class RejectedList(Body):
    items: list[RejectedEntry]
    next: str | None


class Rerun(Request):
    """Which jobs run again, on the current model."""

    only: RerunOnly = "failed"


class LabelMetrics(Body):
    """One label: how often it was true, and how well it was found; null where nothing can be divided."""

    label: str
    true: int
    predicted: int
    recall: float | None
    precision: float | None


class PipelineMetrics(Body):
    """First findings against the manifest's labels.

    `confusion[i][j]` counts pictures of label i whose first finding was label j. `balanced_accuracy` is the mean
    recall over the labels that occur.
    """

    pipeline: str
    labels: list[str]
    counted: int
    accuracy: float
    balanced_accuracy: float
    per_label: list[LabelMetrics]
    confusion: list[list[int]]


class BatchMetrics(Body):
    """Empty when the manifest named no labels; `waiting` counts labelled jobs without a finding so far."""

    items: list[PipelineMetrics]
    labelled: int
    waiting: int


class UploadInfo(Body):
    """An archive that arrives in pieces. `id` goes to POST /v1/batches once all bytes are there."""

    id: str
    offset: int
    length: int
    filename: str | None
    expires_at: datetime
