"""Temperature and thresholds: found again where the answer is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.catalog import PIPELINES
from training.calibrate import temperature, threshold_at_best_sum, threshold_at_sensitivity, thresholds

SKIN = PIPELINES["skin"]


@pytest.mark.parametrize("true", [0.5, 1.0, 2.5])
def test_the_temperature_that_made_the_labels_is_found(true: float) -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(20_000, 4)) * 2
    exponents = np.exp(logits / true)
    shares = exponents / exponents.sum(axis=1, keepdims=True)
    truth = (shares.cumsum(axis=1) > random.random((len(logits), 1))).argmax(axis=1)
    assert temperature(logits, truth) == pytest.approx(true, rel=0.06)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999), count=st.integers(3, 60), sensitivity=st.sampled_from([0.5, 0.8, 0.9, 1.0]))
def test_the_threshold_at_a_sensitivity_is_the_highest_that_has_it(
    seed: int, count: int, sensitivity: float
) -> None:
    random = np.random.default_rng(seed)
    probability = np.round(random.random(count), 2)
    positive = random.random(count) < 0.4
    positive[:2] = True, False
    cut = threshold_at_sensitivity(positive, probability, sensitivity)
    assert (probability[positive] >= cut).mean() >= sensitivity
    higher = probability[probability > cut]
    if len(higher):
        assert (probability[positive] >= higher.min()).mean() < sensitivity


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999), count=st.integers(3, 40))
def test_no_threshold_has_a_better_sum_of_sensitivity_and_specificity(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    probability = np.round(random.random(count), 2)
    positive = random.random(count) < 0.3
    positive[:2] = True, False

    def both(cut: float) -> float:
        flagged = probability >= cut
        return float(flagged[positive].mean() + (~flagged)[~positive].mean())

    assert both(threshold_at_best_sum(positive, probability)) == pytest.approx(
        max(both(cut) for cut in np.unique(probability))
    )


def test_melanoma_is_flagged_at_ninety_percent_sensitivity() -> None:
    random = np.random.default_rng(1)
    truth = random.integers(2, size=500)
    mel = np.clip(0.5 + 0.2 * (truth - 0.5) + random.normal(size=500) * 0.2, 0, 1)
    cuts = thresholds([SKIN.label("nv"), SKIN.label("mel")], np.stack([1 - mel, mel], axis=1), truth)
    assert (mel[truth == 1] >= cuts["mel"]).mean() >= 0.90
    assert (mel[truth == 1] >= cuts["mel"] + 0.01).mean() < 0.92


def test_a_threshold_needs_a_positive() -> None:
    nobody = np.zeros(3, dtype=bool)
    for choose in (
        lambda: threshold_at_best_sum(nobody, np.ones(3)),
        lambda: threshold_at_sensitivity(nobody, np.ones(3), 0.9),
    ):
        with pytest.raises(ValueError, match="at least one positive"):
            choose()
