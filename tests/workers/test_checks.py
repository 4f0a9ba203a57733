"""Every check by itself, and all of them against the planted replies."""

import json

import pytest

from shared.catalog import LANGUAGES
from tests.answers_eval.replies import good, lines, planted
from tests.workers.cases import case
from workers import checks
from workers.answer import judge
from workers.llm import Completion
from workers.prompt import build_prompt
from workers.reply import Reply


def failed(one, reply):
    """The names of the checks that a reply fails."""
    outcomes, _ = checks.run(one, Reply.model_validate(reply))
    return {check.name for check in outcomes if not check.passed}


def added(lang, name, sentence):
    reply = good(lang, name)
    return reply | {"answer": f"{reply['answer']} {sentence}"}


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("name", ["mel_clear", "nv_clear", "bcc"])
def test_a_good_reply_passes_every_check(lang, name):
    assert failed(case(name, lang), good(lang, name)) == set()


# A reply that this check alone withholds: without the check it would be shown.
ONLY = {
    "language": added("en", "mel_clear", "Have the spot examined by a dermatologist [skin/mel/what]."),
    "citations": good("en", "mel_clear") | {"citations": [{"id": "skin/mel/cure", "quote": "x" * 30}]},
    "finding": good("en", "mel_clear")
    | {"suggests": "Have the spot examined by a dermatologist within the next few days."},
    "labels": added("en", "mel_clear", "Only a tissue sample can say whether a spot is a squamous cancer."),
    "numbers": added("en", "mel_clear", "Have the 3 spots examined by a dermatologist."),
    "treatment": added("en", "mel_clear", "Do not try to remove or treat the spot with a cream yourself."),
    "urgency": good("en", "mel_clear") | {"urgency": "routine"},
    "calm": added("en", "mel_clear", "Melanoma is a harmless cancer that begins in the cells of the skin."),
    "delay": added("en", "bcc", "You do not need to see a doctor about it."),
    "certainty": added("en", "mel_clear", "The spot is certainly a melanoma."),
    "department": good("en", "mel_clear") | {"department": "Cardiology"},
    "repetition": added("en", "mel_clear", "Have the spot spot examined by a dermatologist."),
    "grounding": added("en", "mel_clear", "The moon rises over quiet mountains in autumn."),
}


def test_there_is_a_reply_for_every_check():
    assert set(ONLY) == set(checks.CHECKS)


@pytest.mark.parametrize("name", ONLY)
def test_each_check_withholds_what_no_other_one_does(name):
    reply = ONLY[name]
    one = case("bcc" if name == "delay" else "mel_clear")
    assert failed(one, reply) == {name}


def cited(quote, id="skin/mel/what"):
    return good("en", "mel_clear") | {"citations": [{"id": id, "quote": quote}]}


# Further parts of the checks, each with a reply that only this part withholds.
PARTS = {
    "a quote that the passage does not hold": (
        "citations",
        cited("Melanoma is a cancer that begins on the moon."),
    ),
    "a quote that would fit anywhere": ("citations", cited("Melanoma is a")),
    "a passage that there is not": (
        "citations",
        cited("Melanoma is a cancer that begins in", "skin/mel/more"),
    ),
    "a finding without its percentage": (
        "finding",
        good("en", "mel_clear")
        | {
            "suggests": "The picture suggests melanoma.",
            "answer": "Melanoma is a cancer that begins in the cells that give skin its colour.",
        },
    ),
    "a label below its threshold": (
        "labels",
        good("en", "mel_clear") | {"suggests": "The picture suggests melanoma (81%) or a mole."},
    ),
    "a label that no passage speaks of": (
        "labels",
        added("en", "mel_clear", "Have the dermatofibroma examined by a dermatologist."),
    ),
    "a percentage that a passage has as a count": (
        "numbers",
        added("en", "mel_clear", "Have 40% of the spot examined by a dermatologist."),
    ),
    "an alarm without a reason": ("urgency", good("en", "mel_clear") | {"urgency": "emergency"}),
}


@pytest.mark.parametrize("part", PARTS)
def test_each_part_of_a_check_withholds_what_no_other_one_does(part):
    name, reply = PARTS[part]
    assert failed(case(), reply) == {name}


@pytest.mark.parametrize(
    ("lang", "other"), [("en", "fr"), ("fr", "en"), ("ko", "en"), ("en", "ko"), ("fr", "ko")]
)
def test_a_reply_in_another_language_is_withheld(lang, other):
    assert "language" in failed(case(lang=lang), good(other, "mel_clear"))


@pytest.mark.parametrize("half", ["open", "locked"])
def test_every_planted_reply_is_withheld(half):
    shown = []
    for row in lines(f"planted_{half}.jsonl"):
        one = case(row["case"], row["lang"])
        _, reasons, answer = judge(one, build_prompt(one), Completion(json.dumps(planted(row)), "m"))
        assert (answer is None) == bool(reasons)
        shown += [row["id"]] if answer else []
    assert shown == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "It is a mole.",
        "[]",
        "null",
        "[" * 100_000,
        json.dumps(good("en", "mel_clear") | {"note": "x"}),
        json.dumps({key: value for key, value in good("en", "mel_clear").items() if key != "citations"}),
        json.dumps(good("en", "mel_clear") | {"urgency": "soon"}),
        json.dumps(good("en", "mel_clear") | {"citations": []}),
        json.dumps(good("en", "mel_clear") | {"answer": "x" * 5_000}),
        json.dumps(good("en", "mel_clear") | {"answer": "Have it seen."}),
        json.dumps(good("en", "mel_clear") | {"cannot_tell": []}),
        json.dumps(good("en", "mel_clear"))[:-20],
    ],
)
def test_what_is_not_the_object_asked_for_fails_the_schema(text):
    one = case()
    outcomes, reasons, answer = judge(one, build_prompt(one), Completion(text, "m"))
    assert answer is None
    assert [(check.name, check.passed) for check in outcomes] == [("schema", False)]
    assert reasons[0].startswith("schema: ")


def test_thinking_aloud_and_fences_are_taken_off():
    one, text = case(), json.dumps(good("en", "mel_clear"))
    assert judge(one, build_prompt(one), Completion(f"<think>Hm.</think>\n```json\n{text}\n```", "m"))[2]


def test_an_answer_that_passed_lists_its_checks_and_its_sources():
    one = case()
    *_, answer = judge(one, build_prompt(one), Completion(json.dumps(good("en", "mel_clear")), "m", 9, 5))
    assert [check.name for check in answer.checks] == ["schema", *checks.CHECKS]
    assert all(check.passed for check in answer.checks)
    assert answer.citations[0].title.startswith("US National Cancer Institute: ")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (9, 5)
    assert "not reviewed by a clinician" in answer.text
    assert (answer.urgency, answer.department) == ("within_days", "Dermatology")


def test_a_red_flag_in_the_question_raises_the_floor_of_a_reply():
    one = case("nv_clear", question="My dog bit me")
    assert "urgency" in failed(one, good("en", "nv_clear"))
    assert "urgency" not in failed(one, good("en", "nv_clear") | {"urgency": "within_24h"})


def test_an_alarm_without_a_red_flag_is_withheld():
    assert "urgency" in failed(case("nv_clear"), good("en", "nv_clear") | {"urgency": "emergency"})


def test_a_percentage_must_be_its_labels_own():
    one = case("mel_second")  # melanoma 27%, a mole 58%
    own = json.loads(json.dumps(good("en", "mel_clear")).replace("81%", "27%"))
    assert "numbers" not in failed(one, own)
    assert "numbers" in failed(one, json.loads(json.dumps(own).replace("27%", "58%")))
