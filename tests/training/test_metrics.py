"""Every figure of the card against an implementation of its own, from its definition."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from training.metrics import (
    Array,
    Labels,
    bootstrap,
    calibration_error,
    card_metrics,
    figures,
    grade_metrics,
    macro_auc,
    mask_figures,
    quadratic_kappa,
    segment_metrics,
)

CODES = ("a", "b", "c")


def drawn(count: int = 120, classes: int = 3, seed: int = 0) -> tuple[Labels, Array]:
    random = np.random.default_rng(seed)
    truth = random.integers(classes, size=count)
    scores = random.normal(size=(count, classes)) + 1.5 * np.eye(classes)[truth]
    exponents = np.exp(scores)
    return truth, exponents / exponents.sum(axis=1, keepdims=True)


def auc_by_pairs(positive: np.ndarray, score: np.ndarray) -> float:
    """The share of (positive, negative) pairs in the right order; ties count half."""
    pairs = list(product(score[positive], score[~positive]))
    return sum((p > n) + 0.5 * (p == n) for p, n in pairs) / len(pairs)


def test_macro_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    truth, probabilities = drawn()
    expected = np.mean([auc_by_pairs(truth == label, probabilities[:, label]) for label in range(3)])
    assert macro_auc(truth, probabilities) == pytest.approx(expected)


def test_macro_auc_leaves_out_a_label_that_nobody_has() -> None:
    truth, probabilities = drawn()
    truth = np.where(truth == 2, 0, truth)
    expected = np.mean([auc_by_pairs(truth == label, probabilities[:, label]) for label in (0, 1)])
    assert macro_auc(truth, probabilities) == pytest.approx(expected)


def calibration_by_loop(truth: Labels, probabilities: Array, bins: int) -> float:
    total = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = [
            (max(row), int(np.argmax(row)) == label)
            for row, label in zip(probabilities, truth, strict=True)
            if low < max(row) <= high
        ]
        if inside:
            confidence = sum(value for value, _ in inside) / len(inside)
            accuracy = sum(right for _, right in inside) / len(inside)
            total += abs(confidence - accuracy) * len(inside)
    return total / len(truth)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), bins=st.integers(1, 20), count=st.integers(1, 80))
def test_calibration_error_is_its_definition(seed: int, bins: int, count: int) -> None:
    truth, probabilities = drawn(count, seed=seed)
    assert calibration_error(truth, probabilities, bins) == pytest.approx(
        calibration_by_loop(truth, probabilities, bins)
    )


def test_a_sure_and_right_classifier_has_no_calibration_error() -> None:
    truth = np.array([0, 1, 2])
    assert calibration_error(truth, np.eye(3)) == 0.0


def test_figures_are_their_definitions() -> None:
    truth, probabilities = drawn(seed=4)
    cuts = np.array([0.3, 0.5, 0.7])
    found = figures(truth, probabilities, cuts)
    top = probabilities.argmax(axis=1)
    recalls, precisions, f1s = [], [], []
    for label in range(3):
        hit = sum((top == label) & (truth == label))
        recalls.append(hit / sum(truth == label))
        precisions.append(hit / sum(top == label))
        f1s.append(2 * hit / (sum(truth == label) + sum(top == label)))
        flagged = probabilities[:, label] >= cuts[label]
        assert found[f"sensitivity_{label}"] == pytest.approx(
            sum(flagged & (truth == label)) / sum(truth == label)
        )
        assert found[f"specificity_{label}"] == pytest.approx(
            sum(~flagged & (truth != label)) / sum(truth != label)
        )
    assert found["accuracy"] == pytest.approx(sum(top == truth) / len(truth))
    assert found["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert found["macro_recall"] == pytest.approx(np.mean(recalls))
    assert found["macro_precision"] == pytest.approx(np.mean(precisions))
    assert found["macro_f1"] == pytest.approx(np.mean(f1s))


def test_the_bootstrap_draws_whole_groups() -> None:
    groups = ["x", "x", "x", "y", "z", "z"]
    sizes = {"x": 3, "y": 1, "z": 2}
    draws: list[list[int]] = []

    def measure(rows: Labels) -> dict[str, float]:
        draws.append(rows.tolist())
        return {"size": float(len(rows))}

    bootstrap(groups, measure, draws=50)
    for rows in draws:
        for name, size in sizes.items():
            members = [index for index, group in enumerate(groups) if group == name]
            assert len({rows.count(index) for index in members}) == 1, "a group was torn apart"
            assert size == len(members)


def test_intervals_cover_what_theory_says() -> None:
    """With one picture a group, the interval of an accuracy is close to the normal approximation."""
    truth = np.zeros(400, dtype=np.int64)
    right = np.arange(400) < 300
    bounds = bootstrap(
        [str(n) for n in range(400)], lambda rows: {"accuracy": float(right[rows].mean())}, draws=2000
    )["accuracy"]
    half = 1.96 * (0.75 * 0.25 / 400) ** 0.5
    assert bounds == pytest.approx((0.75 - half, 0.75 + half), abs=0.008)
    assert len(truth) == 400


def test_the_cards_figures_hold_together() -> None:
    truth, probabilities = drawn(seed=9)
    groups = [f"lesion {n // 2}" for n in range(len(truth))]
    found = card_metrics("test", CODES, groups, truth, probabilities, dict.fromkeys(CODES, 0.5))
    assert (found.images, found.lesions) == (120, 60)
    assert np.array(found.confusion).sum() == 120
    assert [found.labels[code].support for code in CODES] == np.bincount(truth).tolist()
    diagonal = np.trace(np.array(found.confusion)) / 120
    assert found.accuracy.value == pytest.approx(diagonal, abs=1e-4)
    for name in ("accuracy", "balanced_accuracy", "macro_auc"):
        figure = getattr(found, name)
        assert figure.low <= figure.value <= figure.high


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(5, 80))
def test_quadratic_kappa_is_scikit_learns(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    truth, top = random.integers(0, 4, (2, count))
    expected = cohen_kappa_score(truth, top, labels=[0, 1, 2, 3], weights="quadratic")
    assert quadratic_kappa(truth, top, 4) == pytest.approx(expected, abs=1e-9)


def test_kappa_of_a_single_grade_is_zero_and_not_undefined() -> None:
    assert quadratic_kappa(np.zeros(5, dtype=np.int64), np.zeros(5, dtype=np.int64), 4) == 0.0


def test_a_condition_is_measured_on_the_pictures_that_have_its_grade() -> None:
    truth, shares = drawn(90, 4, seed=2)
    both = np.stack([truth, np.where(np.arange(90) < 60, truth, -1)], axis=1)
    found = grade_metrics(
        "test", ("a", "b"), [str(n) for n in range(90)], both, np.stack([shares] * 2, axis=1)
    )
    top = shares.argmax(axis=1)
    assert found.conditions["a"].accuracy.value == pytest.approx((top == truth).mean(), abs=1e-4)
    assert found.conditions["b"].accuracy.value == pytest.approx((top == truth)[:60].mean(), abs=1e-4)
    assert sum(found.conditions["b"].support) == 60
    assert np.sum(found.conditions["b"].confusion) == 60


def test_mask_figures_are_means_of_pictures_and_then_of_labels() -> None:
    """Two pictures, three labels: the last is missing from the second picture."""
    overlap = np.array([[0.9, 0.8, 0.6], [0.7, 0.4, np.nan]])
    jaccard = np.array([[0.8, 0.7, 0.5], [0.6, 0.3, np.nan]])
    distance = np.array([[1.0, 2.0, 3.0], [3.0, 4.0, np.nan]])
    found = mask_figures(np.stack([overlap, jaccard, distance], axis=1))
    assert found["mean_dice"] == pytest.approx((0.6 + 0.6) / 2)
    assert found["mean_dice_with_background"] == pytest.approx((0.8 + 0.6 + 0.6) / 3)
    assert found["mean_iou"] == pytest.approx((0.5 + 0.5) / 2)
    assert found["thresholded_jaccard"] == pytest.approx(((0.7 + 0) / 2 + 0) / 2)
    assert found["hausdorff95_px_1"] == pytest.approx(3)


def test_a_mask_without_any_distance_has_none_in_its_card() -> None:
    rows = np.full((6, 3, 2), 0.5)
    rows[:, 2, 1] = np.nan
    found = segment_metrics("test", ("background", "x"), list("aabbcc"), rows)
    assert found.labels["x"].hausdorff95_px is None
    assert found.groups == 3
    assert (found.mean_dice.low, found.mean_dice.high) == (0.5, 0.5)
