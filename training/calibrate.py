"""Temperature and thresholds, chosen on `val` and on nothing else."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.metrics import roc_curve

from shared.catalog import Label

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


def temperature(logits: Array, truth: Labels) -> float:
    """The divisor of the logits that makes `truth` most likely.

    Shapes: logits (N, C), truth (N,)
    Source: Guo et al. 2017, On Calibration of Modern Neural Networks
    """

    def negative_log_likelihood(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
        return float(-scaled[np.arange(len(truth)), truth].mean())

    return float(np.exp(minimize_scalar(negative_log_likelihood, bounds=(-3, 3), method="bounded").x))


def threshold_at_sensitivity(positive: NDArray[np.bool_], probability: Array, sensitivity: float) -> float:
    """The highest threshold that still flags this share of the positives.

    Raises: ValueError if there is no positive
    """
    if not positive.any():
        raise ValueError("a threshold needs at least one positive picture")
    _, found, cuts = roc_curve(positive, probability, drop_intermediate=False)
    return float(cuts[np.argmax(found >= sensitivity)])


def threshold_at_best_sum(positive: NDArray[np.bool_], probability: Array) -> float:
    """The threshold with the highest sensitivity + specificity (Youden's J), the higher of equals.

    Unlike F1 it does not depend on how common the label is, so it holds where patients are others.

    Raises: ValueError if there is no positive or no negative
    """
    if not positive.any() or positive.all():
        raise ValueError("a threshold needs at least one positive and one negative picture")
    false, found, cuts = roc_curve(positive, probability, drop_intermediate=False)
    return float(cuts[1:][np.argmax((found - false)[1:])])  # the first cut is infinite: it flags nothing


def thresholds(labels: Sequence[Label], probabilities: Array, truth: Labels) -> dict[str, float]:
    """One threshold per label, each one against the rest, rounded down so that no chosen positive is lost."""
    chosen = {}
    for position, label in enumerate(labels):
        positive, probability = truth == position, probabilities[:, position]
        if label.sensitivity:
            cut = threshold_at_sensitivity(positive, probability, label.sensitivity)
        else:
            cut = threshold_at_best_sum(positive, probability)
        chosen[label.code] = float(np.floor(cut * 10_000) / 10_000)
    return chosen
