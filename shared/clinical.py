"""Age, sex and body site beside the picture: what they say for each label, and how that moves findings.

The network sees the picture alone, so a job that tells nothing costs and finds what it would without this module.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared import cards

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Known:
    """What is known of a patient; None is unknown."""

    age: float | None = None  # years
    sex: str | None = None
    site: str | None = None

    def used(self, clinical: cards.Clinical) -> list[str]:
        """Which of them the card has evidence for."""
        has = {
            "age": self.age is not None,
            "sex": self.sex in clinical.sex,
            "site": self.site in clinical.site,
        }
        return [name for name, told in has.items() if told]


def encoded(
    known: Sequence[Known], ages: Sequence[float], sexes: Sequence[str], sites: Sequence[str]
) -> Array:
    """What is known as numbers; what is unknown, or not in a list, is 0 throughout.

    An age is shared out between the two of `ages` around it, in proportion to how near it is; one beyond their ends
    counts as the end.

    Shapes: -> (N, ages + sexes + sites)
    """
    found = np.zeros((len(known), len(ages) + len(sexes) + len(sites)))
    corners = np.eye(len(ages))
    for row, one in zip(found, known, strict=True):
        if one.age is not None:
            row[: len(ages)] = [np.interp(one.age, ages, corner) for corner in corners]
        if one.sex in sexes:
            row[len(ages) + sexes.index(one.sex)] = 1
        if one.site in sites:
            row[len(ages) + len(sexes) + sites.index(one.site)] = 1
    return found


def evidence(known: Sequence[Known], clinical: cards.Clinical) -> Array:
    """What speaks for each label, in nats; all 0 where nothing is known.

    Shapes: -> (N, labels)
    """
    inputs = encoded(known, clinical.ages, tuple(clinical.sex), tuple(clinical.site))
    found: Array = inputs @ np.array(clinical.rows)
    return found


def informed(shares: Array, said: Array) -> Array:
    """Probabilities after the evidence: each times e to its power, and then all to the sum of 1 again.

    This is Bayes' rule, as far as picture and patient are independent of each other given the label. A row about which
    nothing is said stays as it is, to the bit.

    Shapes: shares, said (N, labels) -> (N, labels)
    Source: Good 1950, Probability and the Weighing of Evidence
    """
    weighed = shares * np.exp(said)
    weighed /= weighed.sum(axis=1, keepdims=True)
    return np.where(said.any(axis=1, keepdims=True), weighed, shares)


def of_patient(rows: list[list[float]], known: Known, clinical: cards.Clinical | None) -> list[list[float]]:
    """Probabilities of pictures of one patient after what is known; as they are where nothing of use is.

    Shapes: rows (N, labels) -> the same
    """
    if clinical is None or not known.used(clinical):
        return rows
    found: list[list[float]] = informed(np.array(rows), evidence([known], clinical)).tolist()
    return found
