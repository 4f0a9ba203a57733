"""The figures of a card, with bootstrap intervals that resample lesions and not pictures."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sk

from shared.cards import Interval, LabelMetrics, Metrics

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
    """Mean over labels of one-against-the-rest AUC; a label with no positive or no negative is left out."""
    areas = [
        sk.roc_auc_score(truth == label, probabilities[:, label])
        for label in range(probabilities.shape[1])
        if 0 < (truth == label).sum() < len(truth)
    ]
    return float(np.mean(areas))


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
        found[f"specificity_{label}"] = float(1 - flagged[~positive, label].mean())
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
    return {name: tuple(np.nanpercentile([draw[name] for draw in drawn], (2.5, 97.5))) for name in drawn[0]}


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

    def interval(name: str) -> Interval:
        low, high = bounds[name]
        return Interval(value=round(point[name], 4), low=round(low, 4), high=round(high, 4))

    return Metrics(
        split=split,
        images=len(truth),
        lesions=len(set(groups)),
        **{name: interval(name) for name in SUMMARY},
        labels={
            code: LabelMetrics(
                support=int((truth == label).sum()),
                sensitivity=interval(f"sensitivity_{label}"),
                specificity=interval(f"specificity_{label}"),
            )
            for label, code in enumerate(codes)
        },
        confusion=sk.confusion_matrix(
            truth, probabilities.argmax(axis=1), labels=np.arange(len(codes))
        ).tolist(),
    )
