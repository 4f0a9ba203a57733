"""Model cards: they survive the disk, and weights that are not theirs are refused."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.cards import Architecture, ModelCard, Preprocess, load_card, save_card, sha256_of, verify
from shared.catalog import PIPELINES, Head
from shared.errors import CardMismatch

HEAD = PIPELINES["skin"].heads[0]
CODES = tuple(label.code for label in HEAD.labels)


@pytest.fixture
def card(tmp_path: Path) -> ModelCard:
    """A card of these very bytes, stored beside them."""
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"weights")
    made = ModelCard(
        name="skin",
        version="1",
        head="classify",
        architecture=Architecture(name="tf_efficientnet_lite0"),
        preprocess=Preprocess(size_px=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        labels=CODES,
        thresholds=dict.fromkeys(CODES, 0.5),
        temperature=1.2,
        largest_microbatch=32,
        data="HAM10000",
        licence="CC BY-NC 4.0",
        training={"epochs": 1},
        weights_dtype="float16",
        sha256=sha256_of(weights),
    )
    save_card(made, tmp_path)
    return made


def test_a_card_survives_the_disk(card: ModelCard, tmp_path: Path) -> None:
    assert load_card(tmp_path) == card


def test_a_card_and_its_own_weights_agree(card: ModelCard, tmp_path: Path) -> None:
    verify(card, HEAD, tmp_path / "weights.safetensors")


def test_weights_that_changed_by_one_byte_are_refused(card: ModelCard, tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"Weights")
    with pytest.raises(CardMismatch, match="sha256"):
        verify(card, HEAD, tmp_path / "weights.safetensors")


def test_weights_that_are_missing_are_named(card: ModelCard, tmp_path: Path) -> None:
    with pytest.raises(CardMismatch, match=r"other\.safetensors is missing"):
        verify(card, HEAD, tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": CODES[::-1]}, "labels"),
        ({"labels": CODES[:-1]}, "labels"),
        ({"thresholds": dict.fromkeys(CODES[:-1], 0.5)}, "thresholds"),
        ({"grades": ("0", "1")}, "grades"),
        ({"smallest_area": dict.fromkeys(CODES[1:], 0.5)}, "smallest_area"),
    ],
)
def test_a_card_that_is_not_the_catalogs_is_refused(
    card: ModelCard, tmp_path: Path, change: dict[str, object], words: str
) -> None:
    other = card.model_copy(update=change)
    with pytest.raises(CardMismatch, match=words):
        verify(other, HEAD, tmp_path / "weights.safetensors")


def test_a_card_of_another_kind_of_head_is_refused(card: ModelCard, tmp_path: Path) -> None:
    with pytest.raises(CardMismatch, match="classify"):
        verify(card, Head("segment", "skin", HEAD.labels), tmp_path / "weights.safetensors")


def test_a_missing_card_is_a_mismatch(tmp_path: Path) -> None:
    with pytest.raises(CardMismatch, match=r"no card\.json"):
        load_card(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"name": "skin"}', "\ud800".encode("utf-8", "surrogatepass")]
)
def test_a_file_that_is_no_card_is_a_mismatch(tmp_path: Path, text: str | bytes) -> None:
    (tmp_path / "card.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CardMismatch, match="not a model card"):
        load_card(tmp_path)


def test_a_field_that_no_card_has_is_refused(card: ModelCard, tmp_path: Path) -> None:
    stored = (tmp_path / "card.json").read_text(encoding="utf-8")
    (tmp_path / "card.json").write_text(stored.replace("{", '{"epochs": 3,', 1), encoding="utf-8")
    with pytest.raises(CardMismatch, match="epochs"):
        load_card(tmp_path)


def test_clinical_evidence_that_does_not_fit_the_card_is_refused(card: ModelCard) -> None:
    row = (0.5,) * len(CODES)
    fits = {"ages": (20, 60), "age": (row, row), "sex": {"male": row}, "site": {"back": row}, "strength": 1}
    told = card.model_dump()
    assert ModelCard.model_validate(told | {"clinical": fits}).clinical
    for wrong in ({"sex": {"male": row[1:]}}, {"ages": (60, 20)}, {"age": (row,)}, {"age": (row, row[1:])}):
        with pytest.raises(ValidationError, match=r"ascend|number for each label"):
            ModelCard.model_validate(told | {"clinical": fits | wrong})
    with pytest.raises(ValidationError, match="takes no clinical data"):
        ModelCard.model_validate(told | {"head": "grade", "clinical": fits})
