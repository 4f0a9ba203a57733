"""The texts of an operator as workers see them: at once when they are asked to, in the reader's language."""

import json
import threading

import pytest

from shared import texts
from shared.database import Database
from shared.text_files import parse
from tests.answers_eval.replies import good
from tests.workers.cases import case, job
from workers import checks
from workers.answer import AnswerStage, case_of
from workers.encoder import Encoder
from workers.minilm import Vector
from workers.prompt import build_prompt
from workers.reference import reference_answer
from workers.reply import parse as parse_reply
from workers.shelf import Shelf
from workers.urgency import department, floor

LEAFLETS = {
    "en": "A mole that was removed is sent to our laboratory. You get the result after a week.",
    "ko": "제거한 점은 검사실로 보냅니다. 결과는 1주일 뒤에 나옵니다.",
    "fr": "Un grain de beauté enlevé est envoyé au laboratoire. Le résultat arrive après une semaine.",
}
QUESTIONS = {
    "en": "Where is a removed mole sent, to which laboratory?",
    "ko": "제거한 점은 어느 검사실로 보내나요?",
    "fr": "À quel laboratoire un grain de beauté enlevé est-il envoyé ?",
}


def leaflet(lang: str, body: str | None = None):
    header = f"---\ntitle: Leaflet {lang}\nsource: Example Hospital\ndate: 2026-03-01\nlang: {lang}\n---\n"
    return parse((header + (body or LEAFLETS[lang])).encode(), "leaflet.md")


@pytest.fixture
def shelf(database: Database) -> Shelf:
    texts.add(database, [leaflet(lang) for lang in LEAFLETS])
    return Shelf(database, fresh_s=0)


@pytest.mark.parametrize("lang", LEAFLETS)
def test_an_answer_without_a_model_quotes_what_comes_near_to_the_question(shelf: Shelf, lang: str) -> None:
    row = job("nv_clear", lang, QUESTIONS[lang])
    one = case_of(row, shelf)
    said = reference_answer(one, build_prompt(one))
    assert LEAFLETS[lang] in said.text
    assert "Example Hospital, 2026-03-01" in said.text
    (added, *_) = [cited for cited in said.citations if cited.id.startswith("added/")]
    assert (added.title, added.url) == (f"Example Hospital: Leaflet {lang}", None)


def test_the_prompt_holds_it_with_title_and_date_as_data(shelf: Shelf) -> None:
    one = case_of(job("nv_clear", "en", QUESTIONS["en"]), shelf)
    (added,) = [passage for passage in one.passages if passage.added]
    user = build_prompt(one).messages[1]["content"]
    assert added.text == LEAFLETS["en"]
    for part in (added.id, "Leaflet en", "2026-03-01", "sent to our laboratory"):
        assert part in user


def test_a_text_changes_neither_urgency_nor_department(shelf: Shelf) -> None:
    row = job("mel_clear", "en", QUESTIONS["en"])
    with_texts, without = case_of(row, shelf), case_of(row)
    assert with_texts.passages != without.passages
    assert (floor(with_texts), department(with_texts)) == (floor(without), department(without))


def test_a_change_is_seen_when_it_is_time_to_look_again(database: Database) -> None:
    now = 0.0
    shelf = Shelf(database, fresh_s=5, clock=lambda: now)
    assert shelf.nearest("mole laboratory", [], "en") == []
    (added,) = texts.add(database, [leaflet("en")])
    assert shelf.nearest("mole laboratory", [], "en") == []
    now = 5.0
    assert len(shelf.nearest("mole laboratory", [], "en")) == 1
    assert shelf.nearest("mole laboratory", [], "fr") == []
    texts.remove(database, added.id)
    now = 10.0
    assert shelf.nearest("mole laboratory", [], "en") == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "body",
    [
        "Such a removed mole is harmless.",
        "You can wait some months before a removed mole is examined.",
        "A removed mole is definitely nothing.",
    ],
)
def test_what_calms_or_postpones_is_not_quoted_beside_a_finding(database: Database, body: str) -> None:
    texts.add(database, [leaflet("en", body)])
    one = case_of(job("mel_clear", "en", "Is a removed mole harmless?"), Shelf(database))
    assert any(passage.added for passage in one.passages)
    assert body not in reference_answer(one, build_prompt(one)).text


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_no_text_lets_a_language_model_calm_anybody(database: Database) -> None:
    body = "The spot that the picture shows is harmless and needs no doctor at all."
    texts.add(database, [leaflet("en", body)])
    row = job("mel_clear", "en", "Is the spot harmless?")
    one = case_of(row, Shelf(database))
    assert any(passage.added for passage in one.passages)
    reply = parse_reply(json.dumps(good("en", "mel_clear") | {"answer": body}))
    failed = {check.name for check in checks.run(one, reply)[0] if not check.passed}
    assert "calm" in failed


@pytest.mark.parametrize("lang", LEAFLETS)
def test_a_text_that_only_shares_the_labels_name_is_in_the_prompt_but_not_quoted(
    shelf: Shelf, lang: str
) -> None:
    question = {"en": "Can I swim?", "ko": "수영해도 되나요?", "fr": "Puis-je nager ?"}[lang]
    one = case_of(job("nv_clear", lang, question), shelf)
    said = reference_answer(one, build_prompt(one))
    assert lang == "ko" or any(passage.added for passage in one.passages)  # 점 is one syllable
    assert not [cited for cited in said.citations if cited.id.startswith("added/")]


def test_ours_about_a_less_urgent_label_is_not_quoted() -> None:
    one = case("mel_clear", "en", "What does a brown warty keratosis look like?")
    said = reference_answer(one, build_prompt(one))
    assert not [cited for cited in said.citations if cited.id.startswith("skin/bkl")]


def test_ours_that_answers_the_question_is_quoted() -> None:
    one = case("mel_clear", "en", "Which colours and edges are a sign?")
    said = reference_answer(one, build_prompt(one))
    assert "skin/mel/looks" in {cited.id for cited in said.citations}


UNWORDED = "How many days until I hear about the excised moles?"  # shares one word with the leaflet, which is not enough


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_question_in_other_words_finds_a_text_by_its_meaning(database: Database, encoder: Encoder) -> None:
    texts.add(database, [leaflet(lang) for lang in LEAFLETS])
    by_words, shelf = Shelf(database), Shelf(database, encoder)
    assert shelf.wait(60)
    assert by_words.nearest(UNWORDED, [], "en") == []
    (found,) = shelf.nearest(UNWORDED, [], "en")
    assert found.text == LEAFLETS["en"]
    assert shelf.nearest(UNWORDED, [], "fr") == shelf.nearest(UNWORDED, [], "ko") == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_it_is_quoted_without_a_model_too(database: Database, encoder: Encoder) -> None:
    texts.add(database, [leaflet("en")])
    shelf = Shelf(database, encoder)
    assert shelf.wait(60)
    row = job("nv_clear", "en", UNWORDED)
    said = [
        AnswerStage(None, 1, shelf=shelf, encoder=one).begin(row, lambda: False)().values["answer"]["text"]
        for one in (encoder, None)
    ]
    assert [LEAFLETS["en"] in text for text in said] == [True, False]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_removed_text_is_not_found_by_its_meaning(database: Database, encoder: Encoder) -> None:
    added = texts.add(database, [leaflet("en")])
    shelf = Shelf(database, encoder, fresh_s=0)
    assert shelf.wait(60)
    texts.remove(database, added[0].id)
    assert shelf.nearest(UNWORDED, [], "en") == []


class Slow:
    """An encoder that reads nothing until it may."""

    def __init__(self, encoder: Encoder) -> None:
        self.may, self.question = threading.Event(), encoder.question
        self._encoder = encoder

    def passage(self, text: str) -> Vector:
        assert self.may.wait(60)
        return self._encoder.passage(text)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_until_it_is_read_a_text_is_found_by_its_words(database: Database, encoder: Encoder) -> None:
    (added,) = texts.add(database, [leaflet("en")])
    slow = Slow(encoder)
    shelf = Shelf(database, slow, fresh_s=0)  # type: ignore[arg-type]
    assert len(shelf.nearest(QUESTIONS["en"], [], "en")) == 1
    assert shelf.nearest(UNWORDED, [], "en") == []
    texts.remove(database, added.id)
    assert shelf.nearest(QUESTIONS["en"], [], "en") == []
    slow.may.set()
    assert shelf.wait(60)
    assert shelf.nearest(UNWORDED, [], "en") == []  # what was read too late is not put back
