"""Evidence of age, sex and site: it adds up, it is Bayes' rule, and nothing known changes nothing."""

from pathlib import Path

import numpy as np
import pytest

from shared.cards import Clinical, load_card
from shared.clinical import Known, encoded, evidence, informed, of_patient
from tests.tiny import tiny_model, with_clinical

SAYS = Clinical(
    ages=(20, 40, 80),
    age=((0.0, 1.0), (2.0, -1.0), (4.0, 0.0)),
    sex={"female": (0.5, 0.25), "male": (-0.5, 0.0)},
    site={"back": (0.0, 3.0)},
    strength=1,
)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (Known(age=40), (2.0, -1.0)),
        (Known(age=30), (1.0, 0.0)),
        (Known(age=70), (3.5, -0.25)),
        (Known(age=0), (0.0, 1.0)),
        (Known(age=120), (4.0, 0.0)),
        (Known(sex="male"), (-0.5, 0.0)),
        (Known(30, "female", "back"), (1.5, 3.25)),
    ],
)
def test_evidence_adds_up_and_changes_evenly_between_ages(known: Known, expected: tuple[float, ...]) -> None:
    assert evidence([known], SAYS)[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    "known", [Known(), Known(sex="unknown"), Known(site="unknown"), Known(sex="unknown", site="ear")]
)
def test_what_is_unknown_changes_nothing_to_the_bit(known: Known) -> None:
    row = [0.1 + 0.2, 0.7 - 1e-17]
    assert not evidence([known], SAYS).any()
    assert of_patient([row], known, SAYS)[0] == row
    assert informed(np.array([row]), evidence([known], SAYS))[0].tolist() == row
    assert known.used(SAYS) == []


def test_an_unknown_value_beside_known_ones_is_as_good_as_left_out() -> None:
    assert np.array_equal(evidence([Known(50, "unknown", "scalp")], SAYS), evidence([Known(age=50)], SAYS))
    assert Known(50, "unknown", "scalp").used(SAYS) == ["age"]
    assert Known(0, "male", "back").used(SAYS) == ["age", "sex", "site"]


def test_evidence_of_log_likelihoods_gives_bayes_posterior() -> None:
    """Counted out over every case, of two labels, three pictures and two sexes."""
    prior = np.array([0.8, 0.2])
    picture = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])  # p(picture | label)
    sex = np.array([[0.9, 0.1], [0.4, 0.6]])  # p(sex | label)
    joint = prior[:, None, None] * picture[:, :, None] * sex[:, None, :]
    alone = joint.sum(axis=2) / joint.sum(axis=(0, 2))
    for position, name in enumerate(("female", "male")):
        says = SAYS.model_copy(update={"sex": {name: tuple(np.log(sex[:, position]))}})
        found = informed(alone.T, evidence([Known(sex=name)], says))
        assert found == pytest.approx((joint[:, :, position] / joint[:, :, position].sum(axis=0)).T)


def test_an_age_is_shared_out_between_its_neighbours() -> None:
    row = encoded([Known(age=25)], (20, 40, 80), ("female",), ())[0]
    assert row.tolist() == [0.75, 0.25, 0, 0]


def test_a_card_with_evidence_survives_the_disk_to_the_digit(tmp_path: Path) -> None:
    card = with_clinical(tmp_path, tiny_model(tmp_path))
    again = load_card(tmp_path / "skin")
    assert again == card
    known = [Known(33, "male", "face")]
    assert card.clinical
    assert again.clinical
    assert np.array_equal(evidence(known, again.clinical), evidence(known, card.clinical))
