"""Shows batches in a terminal."""

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from api.render import STATUS_STYLES, line, percent
from shared.batch_schemas import Batch, BatchCounts, BatchMetrics, RejectedEntry

BATCH_STYLES = STATUS_STYLES | {"receiving": "cyan", "completed": "green"}
COUNTED = ("succeeded", "running", "queued", "failed", "rejected", "canceled", "expired")
UNITS = ("B", "kB", "MB", "GB", "TB")


def batch_view(
    batch: Batch, rejected: Iterable[RejectedEntry] = (), metrics: BatchMetrics | None = None
) -> RenderableType:
    """Counts first, then what was wrong, then how good the findings are."""
    head = Text().append(f"{line(batch.filename or '', 60)}  " if batch.filename else "", "bold")
    head.append(batch.status, BATCH_STYLES[batch.status]).append(f"  {line(batch.id)}", "dim")
    parts: list[RenderableType] = [head, Text(counts_words(batch.counts))]
    if batch.error:
        parts.append(Text(f"{line(batch.error.title)}: {line(batch.error.detail, 500)}", "red"))
    shown = list(rejected)
    parts += [
        Text(f"  {line(entry.name, 60)}: {line(entry.problem.detail, 200)}", "yellow") for entry in shown
    ]
    if batch.counts.rejected > len(shown) > 0:
        parts.append(Text(f"  and {batch.counts.rejected - len(shown):,} more", "yellow"))
    for measured in metrics.items if metrics else ():
        parts.append(
            Text(
                f"{line(measured.pipeline)}, {measured.counted:,} labelled pictures: accuracy "
                f"{percent(measured.accuracy)}, balanced accuracy {percent(measured.balanced_accuracy)}"
            )
        )
    return Group(*parts)


def counts_words(counts: BatchCounts) -> str:
    """Only what there is: `9,990 succeeded, 10 failed, 15 rejected of 10,015`."""
    found = [f"{getattr(counts, name):,} {name}" for name in COUNTED if getattr(counts, name)]
    return f"{', '.join(found) or 'nothing yet'} of {counts.total:,}"


def batches_table(batches: Iterable[Batch]) -> Table:
    table = Table("Batch", "Created", "Status", "Done", "File", "Counts", box=None)
    for batch in batches:
        table.add_row(
            Text(line(batch.id), no_wrap=True),
            Text(f"{batch.created_at:%Y-%m-%d %H:%M:%S}", no_wrap=True),
            Text(batch.status, BATCH_STYLES[batch.status]),
            Text(f"{batch.progress:.0%}"),
            Text(line(batch.filename or "", 24)),
            Text(counts_words(batch.counts)),
        )
    return table


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
