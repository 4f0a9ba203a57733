"""What embeddings are worth, on the questions that no threshold was chosen by."""

import pytest

from tests.retrieval.asked import Score, finders, leaflets, of_leaflets, score, score_ours
from workers.encoder import Encoder


def scores(half: str, encoder: Encoder) -> dict[str, Score]:
    return {name: score(of_leaflets(half), find) for name, find in finders(leaflets(), encoder).items()}


def test_questions_in_other_words_find_their_leaflet(encoder: Encoder) -> None:
    """0.11 by words and 0.82 by both, when this was written."""
    locked = scores("locked", encoder)
    assert locked["words"].shown < 0.2
    assert locked["both"].shown > 0.7
    assert locked["both"].reciprocal > 0.6
    assert locked["both"].astray < 0.5  # of three


def test_questions_in_a_leaflets_words_find_it_as_before(encoder: Encoder) -> None:
    worded = scores("worded", encoder)
    assert worded["words"].first == worded["both"].first == 1


@pytest.mark.parametrize("half", ["open", "locked"])
def test_our_own_texts_are_found_at_least_as_often(half: str, encoder: Encoder) -> None:
    found = score_ours(half, encoder)
    assert found["both"].first >= found["words"].first + 0.2
