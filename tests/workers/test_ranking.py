"""Which passages come nearest to a question, in three languages."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.catalog import LANGUAGES, Lang
from workers.encoder import Encoder
from workers.knowledge import Passage, Quote
from workers.label_texts import Source
from workers.ranking import Index, fused, takes_up, words

TEXTS: dict[Lang, list[str]] = {
    "en": [
        "Parking is free for patients of the clinic.",
        "A mole that was removed leaves a small scar.",
        "Sun protection lowers the risk of melanoma.",
    ],
    "ko": ["환자는 병원에 무료로 주차할 수 있습니다.", "점을 제거하면 작은 흉터가 남습니다.", "자외선 차단은 흑색종의 위험을 줄입니다."],
    "fr": [
        "Le stationnement est gratuit pour les patients de la clinique.",
        "Un grain de beauté enlevé laisse une petite cicatrice.",
        "La protection solaire diminue le risque de mélanome.",
    ],
}  # fmt: skip


def passage(number: int, text: str) -> Passage:
    source = Source("x", "Example Hospital", "Leaflet", "")
    return Passage(
        f"added/x/{number}", "", "added", "", (Quote(text, source),), None, None, date(2026, 1, 1), ""
    )


def index(lang: Lang) -> Index:
    return Index([passage(i, text) for i, text in enumerate(TEXTS[lang])], lang)


def found(lang: Lang, question: str, names: list[str] | None = None) -> list[int]:
    return [int(one.id[-1]) for one in index(lang).nearest(question, names or [])]


@pytest.mark.parametrize(
    ("lang", "question", "first"),
    [
        ("en", "Where can I park?", 0),
        ("en", "Will there be a SCAR after removing it?", 1),
        ("ko", "주차는 어디에 하나요?", 0),
        ("ko", "점을 제거한 뒤 흉터가 남나요?", 1),
        ("fr", "Où stationner ?", 0),
        ("fr", "Y aura-t-il une cicatrice quand on l’enlève ?", 1),
        ("fr", "risque de melanome", 2),
    ],
)
def test_the_nearest_passage_comes_first(lang: Lang, question: str, first: int) -> None:
    assert found(lang, question)[0] == first


@pytest.mark.parametrize(
    ("lang", "question"),
    [("en", "Is it what I think it is?"), ("ko", "어떻게 해야 하나요?"), ("fr", "Que dois-je faire ?"), ("en", ""), ("ko", "👍")],
)  # fmt: skip
def test_a_question_that_shares_no_telling_word_finds_nothing(lang: Lang, question: str) -> None:
    assert found(lang, question) == []


@pytest.mark.parametrize(("lang", "name"), [("en", "Melanoma"), ("ko", "흑색종"), ("fr", "Mélanome")])
def test_what_a_label_is_called_finds_its_passages_without_any_question(lang: Lang, name: str) -> None:
    assert found(lang, "", [name]) == [2]


def test_half_of_a_name_is_not_the_name() -> None:
    assert found("en", "", ["melanoma of the eye"]) == []


def test_what_is_not_kept_is_not_found() -> None:
    near = index("en").nearest("Where can I park?", keep=lambda one: not one.id.endswith("0"))
    assert near == []


def test_an_index_without_passages_finds_nothing() -> None:
    assert Index([], "en").nearest("mole") == []
    assert Index([passage(0, "!!!")], "en").nearest("mole") == []


@given(st.text(max_size=60), st.sampled_from(LANGUAGES))
def test_any_question_is_taken(question: str, lang: Lang) -> None:
    assert len(index(lang).nearest(question)) <= 3
    assert all(words(question, lang))


def test_threads_do_not_stem_each_others_words() -> None:
    spoken = ["removing moles parking patients protection", "scarring clinics lowered risks"] * 200
    alone = [words(text, "en") for text in spoken]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda text: words(text, "en"), spoken)) == alone


@pytest.mark.parametrize(
    ("by_words", "by_meaning", "both"),
    [
        ([], [], []),
        ([1, 2], [], [1, 2]),
        ([], [2, 1], [2, 1]),
        ([0], [1], [1, 0]),  # meaning weighs more
        ([0, 1], [2, 1], [1, 2, 0]),  # what both find comes first
    ],
)
def test_two_rankings_become_one(by_words: list[int], by_meaning: list[int], both: list[int]) -> None:
    assert fused(by_words, by_meaning) == both


def test_english_is_found_by_its_meaning_and_other_languages_by_their_words(encoder: Encoder) -> None:
    asked = {
        "en": "What does it cost to leave my car at the hospital?",
        "fr": "Où laisser ma voiture ?",
        "ko": "차를 어디에 세우나요?",
    }
    for lang, question in asked.items():
        passages = [passage(i, text) for i, text in enumerate(TEXTS[lang])]
        assert found(lang, question) == []
        assert [one.id[-1] for one in Index(passages, lang, encoder).nearest(question)] == ["0"][
            : lang == "en"
        ]
        assert takes_up(question, passages[0], lang, encoder) is (lang == "en")


def test_what_is_not_kept_is_not_found_by_its_meaning(encoder: Encoder) -> None:
    known = Index([passage(i, text) for i, text in enumerate(TEXTS["en"])], "en", encoder)
    asked = "What does it cost to leave my car at the hospital?"
    assert known.nearest(asked, keep=lambda one: not one.id.endswith("0")) == []
    assert known.nearest(asked, keep=lambda one: False) == []


@pytest.mark.parametrize("question", ["", "   ", "?", "What is the capital of Australia?"])
def test_what_means_nothing_here_finds_nothing(encoder: Encoder, question: str) -> None:
    known = Index([passage(i, text) for i, text in enumerate(TEXTS["en"])], "en", encoder)
    assert known.nearest(question) == []
    assert not takes_up(question, passage(0, TEXTS["en"][0]), "en", encoder)
