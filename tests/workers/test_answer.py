"""The answer stage: which words a job gets, and what they cost it."""

import json
import time
from typing import Any

import pytest

from shared.errors import AnswerRejected, LanguageModelUnavailable, ModelsAway
from shared.steps import Step, kept
from shared.tables import JobRow
from tests.answers_eval.replies import good
from workers.answer import AnswerStage, case_of
from workers.llm import ScriptedModel

GOOD = json.dumps(good("en", "mel_clear"))
BAD = json.dumps(good("en", "mel_clear") | {"urgency": "self_care"})


def job(**columns: Any) -> JobRow:
    findings = [
        {"label": "mel", "name": "Melanoma", "probability": 0.81, "above_threshold": True},
        {"label": "nv", "name": "Melanocytic nevi", "probability": 0.19, "above_threshold": False},
    ]
    plain = {
        "id": "a", "pipeline": "skin", "question": "Is it dangerous?", "lang": "en", "age": 45, "sex": "female",
        "site": "back", "findings": findings, "warnings": None, "external": True, "failures": 0,
    }  # fmt: skip
    return JobRow(**(plain | columns))


def answer(stage: AnswerStage, row: JobRow) -> dict[str, Any]:
    return stage.begin(row, lambda: False)().values


def test_without_a_model_the_reference_texts_answer() -> None:
    found = answer(AnswerStage(None, 3), job())
    assert found["answer"]["source"] == "reference"
    assert "warnings" not in found


def test_a_reply_that_passes_its_checks_is_the_answer_and_the_prompt_holds_the_case() -> None:
    model = ScriptedModel([GOOD])
    found = answer(AnswerStage(model, 3), job())["answer"]
    assert (found["source"], found["model"]) == ("language_model", "scripted")
    assert found["text"].startswith("The picture suggests melanoma (81%).")
    sent = str(model.prompts[0].messages)
    for part in ("Is it dangerous?", "0.81", "45", "female", "back", "Melanoma"):
        assert part in sent


def test_a_reply_that_fails_is_asked_for_once_more_with_the_reason() -> None:
    model = ScriptedModel([BAD, GOOD])
    found = answer(AnswerStage(model, 3), job())["answer"]
    assert found["source"] == "language_model"
    first, second = (prompt.messages for prompt in model.prompts)
    assert second[: len(first)] == first
    assert "urgency must be within_days or sooner" in second[-1]["content"]
    assert found["usage"]["output_tokens"] == len(BAD.split(" ")) + len(GOOD.split(" "))


def test_a_trace_is_told_of_each_call_and_of_nothing_that_was_said() -> None:
    steps: list[Step] = []
    with kept(steps):
        answer(AnswerStage(ScriptedModel([BAD, GOOD]), 3), job())
        with pytest.raises(LanguageModelUnavailable):
            answer(AnswerStage(ScriptedModel([LanguageModelUnavailable("secret")]), 3), job())
    assert [(one.name, one.error) for one in steps] == [
        ("language_model", None),
        ("language_model", None),
        ("language_model", "language-model-unavailable"),
    ]
    told = steps[0].attributes
    assert (told["gen_ai.response.model"], told["gen_ai.usage.output_tokens"]) == (
        "scripted",
        len(BAD.split(" ")),
    )
    assert "secret" not in str(steps)
    assert "melanoma" not in str(steps)


def test_after_two_failures_the_reference_answers_and_the_checks_say_why() -> None:
    found = answer(AnswerStage(ScriptedModel([BAD, "mole mole"]), 3), job())["answer"]
    assert found["source"] == "reference"
    assert found["refused_reason"] == "The language model's reply failed these checks: schema."
    assert found["checks"] == [{"name": "schema", "passed": False}]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"question": "It won't stop bleeding"}, "emergency"),
        ({"warnings": [{"code": "out_of_distribution", "detail": ""}]}, "unlike those"),
        ({"pipeline": "lesion", "findings": None, "segments": []}, "could not be checked"),
        (
            {"findings": [{"label": "nv", "name": "x", "probability": 0.4, "above_threshold": False}]},
            "threshold",
        ),
    ],
)
def test_no_model_is_asked_about_an_emergency_or_a_picture_that_cannot_be_read(
    columns: Any, reason: str
) -> None:
    model = ScriptedModel([])
    found = answer(AnswerStage(model, 3), job(**columns))["answer"]
    assert found["source"] == "reference"
    assert reason in found["refused_reason"]
    assert not model.prompts


def test_nothing_of_a_withheld_reply_is_left_in_the_job() -> None:
    bad = json.dumps(
        good("en", "mel_clear") | {"answer": "Rub vinegar on it until the strawberry falls off."}
    )
    assert "strawberry" not in str(answer(AnswerStage(ScriptedModel([bad, bad]), 3), job()))


def test_people_who_watch_get_the_answer_only_after_its_checks() -> None:
    class Kept:
        def __init__(self) -> None:
            self.told: list[str] = []
            self.counts: list[int] = []

        def keep_draft(self, job_id: str, attempt: int, text: str) -> None:
            self.told.append(text)

        def keep_written(self, job_id: str, attempt: int, characters: int) -> None:
            assert 0 < characters < sum(map(len, replies))
            self.counts.append(characters)

    for replies, shown in (([GOOD], True), ([BAD, BAD], False)):
        hints = Kept()
        row = job(attempt=1)
        found = answer(AnswerStage(ScriptedModel(replies), 3, hints), row)["answer"]  # type: ignore[arg-type]
        assert bool(hints.told) is shown
        assert hints.counts
        if shown:
            assert hints.told[-1].split() == found["text"].split()


def test_a_job_that_must_stay_in_the_house_is_never_sent() -> None:
    model = ScriptedModel([])
    found = answer(AnswerStage(model, 3), job(external=False))["answer"]
    assert found["source"] == "reference"
    assert "external=false" in found["refused_reason"]
    assert not model.prompts


def test_a_model_that_is_away_is_tried_again() -> None:
    with pytest.raises(LanguageModelUnavailable):
        answer(AnswerStage(ScriptedModel([LanguageModelUnavailable("away")]), 3), job(failures=1))


@pytest.mark.parametrize("reply", [LanguageModelUnavailable("away"), AnswerRejected("no")])
def test_at_the_last_attempt_or_for_words_that_cannot_be_used_the_reference_answers(
    reply: Exception,
) -> None:
    found = answer(AnswerStage(ScriptedModel([reply]), 3), job(failures=2))
    assert found["answer"]["source"] == "reference"
    assert found["answer"]["refused_reason"]
    assert [warning["code"] for warning in found["warnings"]] == ["no_language_model"]


def test_earlier_warnings_are_kept() -> None:
    earlier = {"code": "low_quality", "detail": "blurred"}
    found = answer(AnswerStage(ScriptedModel([AnswerRejected("no")]), 1), job(warnings=[earlier]))
    assert found["warnings"][0] == earlier


def test_a_fault_of_ours_is_not_taken_for_the_models() -> None:
    with pytest.raises(ZeroDivisionError):
        answer(AnswerStage(ScriptedModel([ZeroDivisionError()]), 1), job())


def test_the_case_holds_everything_that_the_row_does() -> None:
    case = case_of(job())
    assert (case.question, case.age, case.sex, case.site) == ("Is it dangerous?", 45, "female", "back")
    assert [finding.label for finding in case.findings] == ["mel", "nv"]
    assert {passage.label for passage in case.passages} >= {"mel"}


def test_while_every_model_is_away_a_job_waits_and_then_the_reference_answers() -> None:
    now = time.time() * 1e6
    stage = AnswerStage(ScriptedModel([ModelsAway(), ModelsAway()]), 3, longest_wait_s=600)
    with pytest.raises(ModelsAway):
        answer(stage, job(created_at=now))
    found = answer(stage, job(created_at=now - 601e6))["answer"]
    assert (found["source"], found["refused_reason"]) == ("reference", ModelsAway().detail)


def test_what_names_a_person_does_not_leave() -> None:
    model = ScriptedModel([GOOD])
    answer(AnswerStage(model, 3), job(question="My name is Ann Example, call +44 20 7946 0018. Is it bad?"))
    sent = str(model.prompts[0].messages)
    assert "[name]" in sent
    assert not [part for part in ("Ann", "Example", "7946") if part in sent]


@pytest.mark.parametrize("source", ["reference", "language_model"])
def test_what_the_network_was_told_is_said_to_be_in_its_findings(source: str) -> None:
    model = ScriptedModel([GOOD]) if source == "language_model" else None
    used = {"name": "skin", "version": "1", "sha256": "0" * 64, "clinical": ["age", "sex"], "also": []}
    found = answer(AnswerStage(model, 3), job(model=used))["answer"]
    assert found["source"] == source
    said = "What you told is part of this result already and must not be counted a second time: age, sex."
    assert said in found["text"]
    assert said not in answer(AnswerStage(None, 3), job(model=used | {"clinical": []}))["answer"]["text"]
    if model:
        assert '<included>["age", "sex"]</included>' in str(model.prompts[0].messages[1]["content"])
