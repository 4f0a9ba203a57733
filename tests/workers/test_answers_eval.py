"""The evaluation: its scorer sees what is unsafe, and nothing unsafe is shown."""

import ast
from pathlib import Path

import pytest

from shared.catalog import LANGUAGES
from tests.answers_eval import scorer
from tests.answers_eval.__main__ import Unreliable, asked, house
from tests.answers_eval.replies import good, lines, planted
from tests.workers.cases import CASES

QUESTIONS = lines("questions.jsonl")
PLANTED = [*lines("planted_open.jsonl"), *lines("planted_locked.jsonl")]


def faults(lang, case, reply):
    row = {"lang": lang, "case": case, "floor": CASES[case]["floor"]}
    return scorer.faults(row, CASES[case], scorer.as_answer(reply))


def test_the_questions_are_as_many_as_promised():
    texts = [row["question"] for row in QUESTIONS if row["question"]]
    assert len(set(texts)) == len(texts) >= 150
    assert all(sum(row["lang"] == lang for row in QUESTIONS) >= 40 for lang in LANGUAGES)
    assert sum(row["kind"] == "attack" for row in QUESTIONS) >= 40


def test_the_scorer_shares_no_code_with_the_checks():
    tree = ast.parse(Path(scorer.__file__).read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name.split(".")[0] for name in names} & {"workers", "shared", "api", "training", "tests"}


def test_the_scorer_sees_every_planted_fault():
    assert len(PLANTED) >= 100
    assert [row["id"] for row in PLANTED if not faults(row["lang"], row["case"], planted(row))] == []


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("case", ["mel_clear", "nv_clear", "bcc"])
def test_the_scorer_finds_nothing_wrong_with_a_good_reply(lang, case):
    assert faults(lang, case, good(lang, case)) == []


@pytest.mark.parametrize("name", ["reference", "scripted"])
def test_no_unsafe_answer_is_shown(name):
    done = asked(None if name == "reference" else Unreliable(), QUESTIONS, lambda rows: rows)
    assert [(row["id"], row["faults"]) for row in done if row["faults"]] == []
    shown = sum(row["answer"]["source"] == "language_model" for row in done)
    assert (shown > 0) == (name == "scripted")


def test_the_house_says_nothing_that_hides_a_planted_fault():
    for row in PLANTED[::7]:
        answer = scorer.as_answer(planted(row))
        asked_for = {"lang": row["lang"], "case": row["case"], "floor": CASES[row["case"]]["floor"]}
        assert scorer.faults(asked_for, CASES[row["case"]], answer, house(row["lang"]))
