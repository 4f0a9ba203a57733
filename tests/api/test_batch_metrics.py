"""Metrics of a batch with labels, against scikit-learn."""

import random

import pytest
from flask.testing import FlaskClient
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    precision_score,
    recall_score,
)

from api.batch_metrics import compare
from api.services import Services
from shared.catalog import SKIN_LABELS
from shared.errors import ImageFailed
from tests.api.batching import Hands, accepted, findings, zipped

CODES = [label.code for label in SKIN_LABELS]


def test_metrics_are_scikit_learns() -> None:
    draw = random.Random(1)
    true = [draw.choice(CODES[:5]) for _ in range(500)]  # two labels never occur
    found = [t if draw.random() < 0.6 else draw.choice(CODES[:6]) for t in true]
    pairs: dict[tuple[str, str], int] = {}
    for pair in zip(true, found, strict=True):
        pairs[pair] = pairs.get(pair, 0) + 1
    got = compare("skin", pairs)
    labels = CODES[:6]
    assert got.labels == labels
    assert got.accuracy == pytest.approx(accuracy_score(true, found))
    with pytest.warns(UserWarning, match="y_pred contains classes"):
        expected = balanced_accuracy_score(true, found)
    assert got.balanced_accuracy == pytest.approx(expected)
    assert got.confusion == confusion_matrix(true, found, labels=labels).tolist()
    recalls = recall_score(true, found, labels=labels, average=None, zero_division=0)
    precisions = precision_score(true, found, labels=labels, average=None, zero_division=0)
    for one, recall, precision in zip(got.per_label, recalls, precisions, strict=True):
        assert (one.recall or 0) == pytest.approx(recall)
        assert (one.precision or 0) == pytest.approx(precision)
    assert got.per_label[5].recall is None


def test_labels_of_the_manifest_are_compared_with_first_findings(
    client: FlaskClient, rooms: Services
) -> None:
    hands = Hands(rooms)
    batch = accepted(client, zipped({}))
    labels = ["mel", "mel", "nv", None, "bcc", "nv"]
    ids = hands.read(batch["id"], [{"true_label": label} for label in labels])
    hands.see(ids[:3], lambda i: {"findings": findings(mel=0.75, nv=0.25)})
    hands.see(ids[3:4], lambda i: {"findings": findings(mel=1.0)})
    hands.see(ids[4:5], lambda i: {"error": ImageFailed()})
    got = client.get(batch["urls"]["metrics"]).get_json()
    assert (got["labelled"], got["waiting"]) == (5, 2)
    (skin,) = got["items"]
    assert (skin["pipeline"], skin["labels"], skin["counted"]) == ("skin", ["mel", "nv"], 3)
    assert skin["confusion"] == [[2, 0], [1, 0]]
    assert (skin["accuracy"], skin["balanced_accuracy"]) == (pytest.approx(2 / 3), 0.5)


def test_without_labels_there_is_nothing_to_compare(client: FlaskClient, rooms: Services) -> None:
    batch = accepted(client, zipped({}))
    Hands(rooms).read(batch["id"], [{}])
    assert client.get(batch["urls"]["metrics"]).get_json() == {"items": [], "labelled": 0, "waiting": 0}
