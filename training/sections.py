"""The parts of a run's page, before they are put on it; and its figures by kind of head."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from shared.cards import Clinical, GradeMetrics, Metrics, SegmentMetrics
from training import charts
from training.charts import plain
from training.classify import labels_of
from training.evaluate import in_words
from training.finished import Finished
from training.grade import grades_of
from training.metrics import GRADE_SUMMARY, MASK_SUMMARY, SUMMARY
from training.samples import Sample
from training.worst import Gallery

NOTE = "In brackets: 95 % bootstrap intervals over groups, such as lesions or patients."


@dataclass(frozen=True)
class Table:
    """Cells in words; the first column names the row."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True)
class Matrix:
    """Counts of pairs: rows are truth, columns what was found."""

    title: str
    names: Sequence[str]
    counts: Sequence[Sequence[int]]

    @property
    def shares(self) -> list[list[float]]:
        """Of each row's pictures."""
        return [[count / max(1, sum(row)) for count in row] for row in self.counts]


@dataclass(frozen=True)
class Section:
    """A part of the page; what is empty is left out."""

    title: str
    note: str = ""
    tables: Sequence[Table] = ()
    matrices: Sequence[Matrix] = ()
    charts: Sequence[tuple[str, Markup]] = ()  # what it shows, for those who cannot see it
    galleries: Sequence[Gallery] = ()


def figures_of(run: Finished, samples: Sequence[Sample]) -> Section:
    """The card's figures, as tables and drawings."""
    found = run.card.metrics
    if isinstance(found, Metrics):
        return _named(run, found, samples)
    if isinstance(found, SegmentMetrics):
        return _drawn(run, found)
    assert isinstance(found, GradeMetrics)
    return _graded(run, found, samples)


def _named(run: Finished, found: Metrics, samples: Sequence[Sample]) -> Section:
    summary = Table(("figure", "value"), [(plain(n), in_words(getattr(found, n))) for n in SUMMARY])
    labels = run.head.labels
    rows = [
        (
            label.en,
            str(found.labels[label.code].support),
            f"{run.card.thresholds[label.code]:.3f}",
            in_words(found.labels[label.code].sensitivity),
            in_words(found.labels[label.code].specificity),
        )
        for label in labels
    ]
    names = [label.code for label in labels]
    each = [
        (one.en, (("sensitivity", found.labels[one.code].sensitivity), ("specificity", found.labels[one.code].specificity)))
        for one in labels
    ]  # fmt: skip
    right = run.outcome.argmax(axis=1) == labels_of(samples)
    return Section(
        "Figures",
        NOTE,
        tables=[
            summary,
            Table(("label", "pictures", "threshold", "sensitivity", "specificity"), rows, "Each label at its own threshold"),
            *_beside(found, run.card.clinical),
        ],
        matrices=[Matrix("Confusion: rows are truth, columns the top label", names, found.confusion)],
        charts=[
            ("Sensitivity and specificity of each label", charts.dots(each)),
            ("Reliability: how often the top label is right, by its probability", charts.reliability(run.outcome.max(axis=1), right)),
        ],
    )  # fmt: skip


def _beside(alone: Metrics, clinical: Clinical | None) -> list[Table]:
    """What age, sex and site add, of a network that was taught them."""
    if clinical is None or clinical.metrics is None:
        return []
    rows = [
        (
            plain(name),
            in_words(getattr(alone, name)),
            in_words(getattr(clinical.metrics, name)),
            in_words(clinical.difference.get(name)),
        )
        for name in SUMMARY
    ]
    head = ("figure", "picture alone", "with age, sex and site", "difference, paired")
    return [Table(head, rows, "What is known beside the picture")]


def _drawn(run: Finished, found: SegmentMetrics) -> Section:
    summary = Table(("figure", "value"), [(plain(n), in_words(getattr(found, n))) for n in MASK_SUMMARY])
    rows, each = [], []
    for label in run.head.labels:
        one = found.labels[label.code]
        rows.append(
            (
                label.en,
                str(one.support),
                in_words(one.dice),
                in_words(one.iou),
                in_words(one.hausdorff95_px, 1),
            )
        )
        each.append((label.en, (("Dice", one.dice), ("IoU", one.iou))))  # fmt: skip
    head = ("label", "pictures", "Dice", "IoU", "Hausdorff 95, pixels")
    labels = run.head.labels[1:]
    dice = [run.outcome[:, 0, position] for position in range(1, len(run.head.labels))]
    return Section(
        "Figures",
        NOTE,
        tables=[summary, Table(head, rows, "Means over pictures, of hard masks in the stored masks' size")],
        charts=[
            ("Dice and IoU of each label", charts.dots(each)),
            ("Dice over pictures", charts.spread(dice, [label.en for label in labels], "Dice of a picture")),
        ],
    )


def _graded(run: Finished, found: GradeMetrics, samples: Sequence[Sample]) -> Section:
    named = {label.code: label.en for label in run.head.labels}
    rows = [
        (named[code], str(sum(one.support)), *(in_words(getattr(one, name)) for name in GRADE_SUMMARY))
        for code, one in found.conditions.items()
    ]
    grades = [grade.en for grade in run.head.grades]
    truth = grades_of(samples)
    known = truth >= 0
    right = (run.outcome.argmax(axis=2) == truth)[known]
    return Section(
        "Figures",
        NOTE,
        tables=[Table(("condition", "pictures", *map(plain, GRADE_SUMMARY)), rows)],
        matrices=[
            Matrix(f"{named[code]}: rows are truth, columns the most probable grade", grades, one.confusion)
            for code, one in found.conditions.items()
        ],
        charts=[
            ("Reliability of all conditions together", charts.reliability(run.outcome.max(axis=2)[known], right))
        ],
    )  # fmt: skip
