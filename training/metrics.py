"""The figures of a card, with bootstrap intervals that resample lesions and not pictures."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sk

from shared.cards import (
    ConditionMetrics,
    GradeMetrics,
    Interval,
    LabelMetrics,
    Metrics,
    SegmentLabelMetrics,
    SegmentMetrics,
)
from training.overlap import mean, thresholded

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
Figures = dict[str, float]

DRAWS = 1000  # of the bootstrap

SUMMARY = (
    "accuracy",
    "balanced_accuracy",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "macro_auc",
    "calibration_error",
)


def calibration_error(truth: Labels, probabilities: Array, bins: int = 15) -> float:
    """Expected calibration error of the top label: mean |confidence - accuracy| over equal-width bins.

    Empty bins weigh nothing.

    Shapes: truth (N,), probabilities (N, C)
    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, eq. 3
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == truth
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.abs(np.bincount(which, confidence - correct, minlength=bins))
    return float(gaps.sum() / len(truth))


def macro_auc(truth: Labels, probabilities: Array) -> float:
    """Mean over labels of one-against-the-rest AUC; a label with no positive or no negative is left out, and none at all is NaN."""
    areas = [
        sk.roc_auc_score(truth == label, probabilities[:, label])
        for label in range(probabilities.shape[1])
        if 0 < (truth == label).sum() < len(truth)
    ]
    return float(np.mean(areas)) if areas else float("nan")


def figures(truth: Labels, probabilities: Array, thresholds: Array) -> Figures:
    """Every figure of the card as a flat table, so that one bootstrap serves all.

    Labels without a picture are left out of macro figures.
    """
    top = probabilities.argmax(axis=1)
    present = np.unique(truth)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(
        truth, top, labels=present, average="macro", zero_division=0
    )
    found = {
        "accuracy": float((top == truth).mean()),
        "balanced_accuracy": float(recall),
        "macro_precision": float(precision),
        "macro_recall": float(recall),
        "macro_f1": float(f1),
        "macro_auc": macro_auc(truth, probabilities),
        "calibration_error": calibration_error(truth, probabilities),
    }
    flagged = probabilities >= thresholds
    for label in range(probabilities.shape[1]):
        positive = truth == label
        found[f"sensitivity_{label}"] = float(flagged[positive, label].mean()) if positive.any() else np.nan
        found[f"specificity_{label}"] = (
            np.nan if positive.all() else float(1 - flagged[~positive, label].mean())
        )
    return found


def bootstrap(
    groups: list[str], measure: Callable[[Labels], Figures], *, draws: int, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """The 2.5th and 97.5th percentile of each figure over resampled groups.

    `measure` is given the positions of the pictures that a draw holds, with repeats.
    """
    _, which = np.unique(groups, return_inverse=True)
    members = np.split(np.argsort(which, kind="stable"), np.cumsum(np.bincount(which))[:-1])
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(draws):
        chosen = random.integers(len(members), size=len(members))
        drawn.append(measure(np.concatenate([members[index] for index in chosen])))
    return {name: _bounds(np.array([draw[name] for draw in drawn])) for name in drawn[0]}


def _bounds(values: Array) -> tuple[float, float]:
    """Both percentiles of the draws in which a figure is defined; NaN if it is in none."""
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.percentile(known, (2.5, 97.5))
    return float(low), float(high)


def intervals(point: Figures, bounds: dict[str, tuple[float, float]]) -> dict[str, Interval]:
    """Figures with their intervals; those that are not defined are left out."""
    return {
        name: Interval(value=round(value, 4), low=round(bounds[name][0], 4), high=round(bounds[name][1], 4))
        for name, value in point.items()
        if not np.isnan(value)
    }


def card_metrics(
    split: str,
    codes: tuple[str, ...],
    groups: list[str],
    truth: Labels,
    probabilities: Array,
    thresholds: dict[str, float],
) -> Metrics:
    """All figures of one split, as the card holds them.

    Shapes: groups and truth (N,), probabilities (N, C) in the order of `codes`
    """
    cuts = np.array([thresholds[code] for code in codes])
    point = figures(truth, probabilities, cuts)
    bounds = bootstrap(groups, lambda rows: figures(truth[rows], probabilities[rows], cuts), draws=DRAWS)

    found = intervals(point, bounds)
    return Metrics(
        split=split,
        images=len(truth),
        lesions=len(set(groups)),
        **{name: found[name] for name in SUMMARY},
        labels={
            code: LabelMetrics(
                support=int((truth == label).sum()),
                sensitivity=found.get(f"sensitivity_{label}"),
                specificity=found.get(f"specificity_{label}"),
            )
            for label, code in enumerate(codes)
        },
        confusion=sk.confusion_matrix(
            truth, probabilities.argmax(axis=1), labels=np.arange(len(codes))
        ).tolist(),
    )


def paired_difference(
    groups: list[str], truth: Labels, before: Array, after: Array, names: tuple[str, ...] = SUMMARY
) -> dict[str, Interval]:
    """How far figures move from one set of probabilities to another of the same pictures.

    Both are measured on the same draws of groups, so that what they have in common does not widen the interval.

    Shapes: groups and truth (N,), before and after (N, C)
    """
    cuts = np.full(before.shape[1], 0.5)  # of no account: a summary has no thresholds

    def moved(rows: Labels) -> Figures:
        old, new = (figures(truth[rows], shares[rows], cuts) for shares in (before, after))
        return {name: new[name] - old[name] for name in names}

    return intervals(moved(np.arange(len(truth))), bootstrap(groups, moved, draws=DRAWS))


MASK_SUMMARY = (
    "mean_dice",
    "mean_dice_with_background",
    "mean_iou",
    "mean_iou_with_background",
    "thresholded_jaccard",
)


def mask_figures(rows: Array) -> Figures:
    """Means over pictures of each label, then over labels; what is not defined is left out.

    Shapes: rows (N, 3, labels): Dice, IoU and Hausdorff 95 of each picture's labels
    """
    labels = mean(rows, axis=0)
    found = {
        "mean_dice": float(mean(labels[0, 1:])),
        "mean_dice_with_background": float(mean(labels[0])),
        "mean_iou": float(mean(labels[1, 1:])),
        "mean_iou_with_background": float(mean(labels[1])),
        "thresholded_jaccard": float(mean(mean(thresholded(rows[:, 1, 1:]), axis=0))),
    }
    for label in range(rows.shape[2]):
        for number, name in enumerate(("dice", "iou", "hausdorff95_px")):
            found[f"{name}_{label}"] = float(labels[number, label])
    return found


def segment_metrics(split: str, codes: tuple[str, ...], groups: list[str], rows: Array) -> SegmentMetrics:
    """All figures of one split, as the card of a segment head holds them.

    Shapes: groups (N,), rows (N, 3, labels)
    """
    bounds = bootstrap(groups, lambda chosen: mask_figures(rows[chosen]), draws=DRAWS)
    found = intervals(mask_figures(rows), bounds)
    return SegmentMetrics(
        split=split,
        images=len(rows),
        groups=len(set(groups)),
        **{name: found[name] for name in MASK_SUMMARY},
        labels={
            code: SegmentLabelMetrics(
                support=int((~np.isnan(rows[:, 1, label])).sum()),
                dice=found[f"dice_{label}"],
                iou=found[f"iou_{label}"],
                hausdorff95_px=found.get(f"hausdorff95_px_{label}"),
            )
            for label, code in enumerate(codes)
        },
    )


GRADE_SUMMARY = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "macro_auc",
    "quadratic_kappa",
    "calibration_error",
)


def grade_figures(truth: Labels, probabilities: Array) -> Figures:
    """How one condition is graded, over the pictures whose grade is known.

    Shapes: truth (N,), probabilities (N, grades)
    """
    top = probabilities.argmax(axis=1)
    present = np.unique(truth)
    _, recall, f1, _ = sk.precision_recall_fscore_support(
        truth, top, labels=present, average="macro", zero_division=0
    )
    return {
        "accuracy": float((top == truth).mean()),
        "balanced_accuracy": float(recall),
        "macro_f1": float(f1),
        "macro_auc": macro_auc(truth, probabilities),
        "quadratic_kappa": quadratic_kappa(truth, top, probabilities.shape[1]),
        "calibration_error": calibration_error(truth, probabilities),
    }


def quadratic_kappa(truth: Labels, top: Labels, grades: int) -> float:
    """Agreement of grades beyond chance, a miss weighed by its square; 0 if chance alone agrees fully.

    Source: Cohen 1968, Weighted kappa
    """
    pairs = sk.confusion_matrix(truth, top, labels=np.arange(grades))
    chance = np.outer(pairs.sum(axis=1), pairs.sum(axis=0)) / pairs.sum()
    squares = np.subtract.outer(np.arange(grades), np.arange(grades)) ** 2
    expected = float((squares * chance).sum())
    return 1 - float((squares * pairs).sum()) / expected if expected else 0.0


def grade_metrics(
    split: str, codes: tuple[str, ...], groups: list[str], truth: Labels, probabilities: Array
) -> GradeMetrics:
    """All figures of one split, as the card of a grade head holds them.

    Shapes: groups (N,), truth (N, conditions) with negative unknown ones, probabilities (N, conditions, grades)
    """
    conditions = {}
    for position, code in enumerate(codes):
        known = truth[:, position] >= 0
        conditions[code] = _condition(
            [group for group, one in zip(groups, known, strict=True) if one],
            truth[known, position],
            probabilities[known, position],
        )
    return GradeMetrics(split=split, images=len(truth), groups=len(set(groups)), conditions=conditions)


def _condition(groups: list[str], truth: Labels, probabilities: Array) -> ConditionMetrics:
    grades = probabilities.shape[1]
    bounds = bootstrap(groups, lambda rows: grade_figures(truth[rows], probabilities[rows]), draws=DRAWS)
    found = intervals(grade_figures(truth, probabilities), bounds)
    return ConditionMetrics(
        support=tuple(np.bincount(truth, minlength=grades).tolist()),
        **{name: found.get(name) for name in GRADE_SUMMARY},  # type: ignore[arg-type]
        confusion=sk.confusion_matrix(truth, probabilities.argmax(axis=1), labels=np.arange(grades)).tolist(),
    )
