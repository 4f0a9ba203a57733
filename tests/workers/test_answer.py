"""The answer stage: which words a job gets, and what they cost it."""

from typing import Any

import pytest

from shared.errors import AnswerRejected, LanguageModelUnavailable
from shared.settings import Settings
from shared.tables import JobRow
from workers.answer import AnswerStage, case_of, make_language_model
from workers.llm import OpenAICompatible, ScriptedModel


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


def test_the_models_words_are_the_answer_and_its_prompt_holds_the_case() -> None:
    model = ScriptedModel(["It may be a melanoma; please have it looked at within days."])
    found = answer(AnswerStage(model, 3), job())["answer"]
    assert (found["source"], found["model"]) == ("language_model", "scripted")
    sent = str(model.prompts[0].messages)
    for part in ("Is it dangerous?", "0.81", "45", "female", "back", "Melanoma"):
        assert part in sent


def test_a_job_that_must_stay_in_the_house_is_never_sent() -> None:
    model = ScriptedModel([])
    found = answer(AnswerStage(model, 3), job(external=False))["answer"]
    assert found["source"] == "reference"
    assert "external=false" in found["refused_reason"]
    assert not model.prompts


def test_a_model_that_is_away_is_tried_again() -> None:
    with pytest.raises(LanguageModelUnavailable):
        answer(AnswerStage(ScriptedModel([LanguageModelUnavailable("away")]), 3), job(failures=1))


@pytest.mark.parametrize("reply", [LanguageModelUnavailable("away"), AnswerRejected("no"), "  "])
def test_at_the_last_attempt_or_for_words_that_cannot_be_used_the_reference_answers(
    reply: str | Exception,
) -> None:
    found = answer(AnswerStage(ScriptedModel([reply]), 3), job(failures=2))
    assert found["answer"]["source"] == "reference"
    assert found["answer"]["refused_reason"]
    assert [warning["code"] for warning in found["warnings"]] == ["no_language_model"]


def test_earlier_warnings_are_kept() -> None:
    earlier = {"code": "low_quality", "detail": "blurred"}
    found = answer(AnswerStage(ScriptedModel([""]), 1), job(warnings=[earlier]))
    assert found["warnings"][0] == earlier


def test_a_fault_of_ours_is_not_taken_for_the_models() -> None:
    with pytest.raises(ZeroDivisionError):
        answer(AnswerStage(ScriptedModel([ZeroDivisionError()]), 1), job())


def test_the_case_holds_everything_that_the_row_does() -> None:
    case = case_of(job())
    assert (case.question, case.age, case.sex, case.site) == ("Is it dangerous?", 45, "female", "back")
    assert [finding.label for finding in case.findings] == ["mel", "nv"]
    assert {passage.label for passage in case.passages} >= {"mel"}


def test_settings_choose_the_model() -> None:
    assert make_language_model(Settings()) is None
    made = make_language_model(
        Settings(answers="openai", openai_api_key="k", openai_base_url="http://127.0.0.1:1/v1")
    )
    assert isinstance(made, OpenAICompatible)
    made.close()
