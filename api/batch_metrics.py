"""How good a batch's first findings are by the labels of its manifest, counted by the database."""

from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.batch_schemas import BatchMetrics, LabelMetrics, PipelineMetrics
from shared.catalog import PIPELINES
from shared.tables import JobRow

Pairs = Mapping[tuple[str, str], int]  # (true label, first finding): pictures


def measure(session: Session, batch_id: str) -> BatchMetrics:
    """One statement that groups; the jobs themselves stay where they are."""
    top = JobRow.findings[0]["label"].as_string()
    statement = (
        select(JobRow.pipeline, JobRow.true_label, top, func.count())
        .where(JobRow.batch_id == batch_id, JobRow.true_label.is_not(None))
        .group_by(JobRow.pipeline, JobRow.true_label, top)
    )
    pairs: defaultdict[str, dict[tuple[str, str], int]] = defaultdict(dict)
    labelled = waiting = 0
    for pipeline, true, found, number in session.execute(statement):
        labelled += number
        if found is None:
            waiting += number
        else:
            pairs[pipeline][true, found] = number
    items = [compare(pipeline, found) for pipeline, found in sorted(pairs.items())]
    return BatchMetrics(items=items, labelled=labelled, waiting=waiting)


def compare(pipeline: str, pairs: Pairs) -> PipelineMetrics:
    """Accuracy, balanced accuracy and confusion of at least one pair.

    Labels stand in the catalogue's order; one that never occurs has no recall and is left out of the mean.
    """
    known = [label.code for label in PIPELINES[pipeline].labels]
    named = {label for pair in pairs for label in pair}
    labels = [code for code in known if code in named] + sorted(named - set(known))
    confusion = [[pairs.get((true, found), 0) for found in labels] for true in labels]
    total = sum(pairs.values())
    per_label = [_of_label(label, i, confusion) for i, label in enumerate(labels)]
    recalls = [one.recall for one in per_label if one.recall is not None]
    return PipelineMetrics(
        pipeline=pipeline,
        labels=labels,
        counted=total,
        accuracy=sum(confusion[i][i] for i in range(len(labels))) / total,
        balanced_accuracy=sum(recalls) / len(recalls),
        per_label=per_label,
        confusion=confusion,
    )


def _of_label(label: str, i: int, confusion: list[list[int]]) -> LabelMetrics:
    true = sum(confusion[i])
    predicted = sum(row[i] for row in confusion)
    hits = confusion[i][i]
    return LabelMetrics(
        label=label,
        true=true,
        predicted=predicted,
        recall=hits / true if true else None,
        precision=hits / predicted if predicted else None,
    )
