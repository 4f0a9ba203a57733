"""The evaluation: its scorer sees what is unsafe, and nothing unsafe is shown."""

import ast
import itertools
import json
import threading
from pathlib import Path

import jsonschema_rs
import pytest

from shared.catalog import LANGUAGES
from shared.errors import StaleAttempt
from tests.answers_eval import scorer
from tests.answers_eval.__main__ import Unreliable, asked, before, house, line, part, reasons, scored
from tests.answers_eval.replies import good, lines, planted
from tests.smollm2 import ending_format
from tests.workers.cases import CASES
from workers.llm import ScriptedModel

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


def test_a_good_reply_fits_into_what_the_tiny_model_may_write():
    schema = ending_format()["json_schema"]["schema"]
    for lang, case in itertools.product(LANGUAGES, ("mel_clear", "nv_clear", "bcc")):
        assert jsonschema_rs.is_valid(schema, good(lang, case))
    assert not jsonschema_rs.is_valid(schema, good("en", "bcc") | {"answer": "x" * 4_000})


@pytest.mark.parametrize("name", ["reference", "scripted"])
def test_no_unsafe_answer_is_shown(name):
    done = [scored(row) for row in asked(None if name == "reference" else Unreliable(), QUESTIONS)]
    assert [(row["id"], row["faults"]) for row in done if row["faults"]] == []
    shown = sum(row["answer"]["source"] == "language_model" for row in done)
    assert (shown > 0) == (name == "scripted")


def test_the_house_says_nothing_that_hides_a_planted_fault():
    for row in PLANTED[::7]:
        answer = scorer.as_answer(planted(row))
        asked_for = {"lang": row["lang"], "case": row["case"], "floor": CASES[row["case"]]["floor"]}
        assert scorer.faults(asked_for, CASES[row["case"]], answer, house(row["lang"]))


def test_a_part_of_the_questions_is_counted_from_one():
    assert [row["id"] for row in QUESTIONS[part("1-2")]] == ["en-01", "en-02"]
    for wrong in ("0-3", "4-2", "7"):
        with pytest.raises(ValueError, match=r"-|unpack"):
            part(wrong)


def test_a_run_that_was_ended_goes_on_where_it_stopped_and_says_how_far_it_came(tmp_path):
    done = [scored(row) | {"provider": "reference"} for row in asked(None, QUESTIONS[:2])]
    kept = tmp_path / "answers.jsonl"
    whole, broken = (json.dumps(row, ensure_ascii=False) for row in done)
    kept.write_text(whole + "\n" + broken[:50], encoding="utf-8")
    assert before(kept) == {("reference", QUESTIONS[0]["id"]): done[0]}
    assert line("reference", done, len(QUESTIONS))[:2] == ["reference", f"2 of {len(QUESTIONS)}"]


def test_whoever_stops_listening_ends_the_calls_under_way():
    begun, stopped = threading.Event(), threading.Event()

    class Endless(ScriptedModel):
        """Answers the first call, and writes on in the second until it is no longer wanted."""

        def complete(self, prompt, *, on_delta=None, should_stop=None):
            if self.replies:
                return super().complete(prompt)
            begun.set()
            while not should_stop():
                stopped.wait(0.01)
            stopped.set()
            raise StaleAttempt("nobody listens")

    row = next(row for row in QUESTIONS if row["case"] == "mel_clear" and row["lang"] == "en")
    coming = asked(Endless([json.dumps(good("en", "mel_clear"))]), [row] * 9)
    assert next(coming)["answer"]["source"] == "language_model"
    assert begun.wait(60)
    coming.close()
    assert stopped.is_set()


def test_reasons_are_counted_with_the_checks_that_failed():
    withheld = {"refused_reason": "The language model's reply failed these checks: schema.", "checks": [
        {"name": "schema", "passed": False}, {"name": "calm", "passed": True}]}  # fmt: skip
    shown = {"refused_reason": None, "checks": []}
    assert reasons([{"answer": withheld}, {"answer": withheld}, {"answer": shown}]) == [
        ("The language model's reply failed these checks", 2),
        ("  check schema", 2),
    ]
