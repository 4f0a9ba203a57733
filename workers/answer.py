"""The answer stage: findings and a question to an answer in words."""

from collections.abc import Callable
from typing import Any, TypeVar

import structlog
from pydantic import BaseModel

from shared.errors import AnswerRejected, LanguageModelUnavailable
from shared.schemas import Answer, Finding, Grade, Segment, Warning
from shared.settings import Settings
from shared.tables import JobRow
from workers.attempt import Found
from workers.knowledge import retrieve
from workers.llm import LanguageModel, OpenAICompatible
from workers.prompt import Case, Prompt, build_prompt
from workers.reference import language_model_answer, reference_answer

T = TypeVar("T", bound=BaseModel)

log = structlog.get_logger(__name__)


def make_language_model(settings: Settings) -> LanguageModel | None:
    """The model that the settings name; None for `reference`."""
    if settings.answers == "reference":
        return None
    return OpenAICompatible(
        settings.openai_base_url,
        settings.openai_api_key,
        settings.openai_model,
        total_timeout_s=settings.openai_timeout_s,
    )


def case_of(job: JobRow) -> Case:
    """All that the answer may rest on, out of the row."""
    found = tuple(Finding.model_validate(finding) for finding in job.findings or ())
    question = job.question or ""
    return Case(
        pipeline=job.pipeline,
        question=question,
        lang=job.lang,  # type: ignore[arg-type]
        age=job.age,
        sex=job.sex,  # type: ignore[arg-type]
        site=job.site,
        findings=found,
        warnings=tuple(Warning.model_validate(warning) for warning in job.warnings or ()),
        segments=_parsed(Segment, job.segments),
        grades=_parsed(Grade, job.grades),
        passages=tuple(retrieve(job.pipeline, found, question, job.lang)),  # type: ignore[arg-type]
    )


def _parsed(body: type[T], column: list[Any] | None) -> tuple[T, ...] | None:
    return None if column is None else tuple(body.model_validate(item) for item in column)


class AnswerStage:
    """Asks the language model, and answers by reference texts when there is none or it may not be asked.

    The findings are worth reading without a model's words: a model that stays away through every attempt,
    or says what cannot be used, costs the job a warning and not its life.
    """

    name = "answer"

    def __init__(self, model: LanguageModel | None, max_attempts: int) -> None:
        self._model, self._max_attempts = model, max_attempts

    def begin(self, job: JobRow, lost: Callable[[], bool]) -> Callable[[], Found]:
        return lambda: self._answer(job, lost)

    def _answer(self, job: JobRow, lost: Callable[[], bool]) -> Found:
        case = case_of(job)
        prompt = build_prompt(case)
        if self._model is None:
            return _found(job, reference_answer(case, prompt))
        if not job.external:
            reason = "The job was submitted with external=false."
            return _found(job, reference_answer(case, prompt, reason))
        try:
            return _found(job, self._ask(self._model, case, prompt, lost))
        except LanguageModelUnavailable as error:
            if job.failures + 1 < self._max_attempts:
                raise
            detail = error.detail
        except AnswerRejected as error:
            detail = error.detail
        log.warning("answered_by_reference", job_id=job.id, detail=detail)
        return _found(job, reference_answer(case, prompt, detail), without_model=True)

    def _ask(self, model: LanguageModel, case: Case, prompt: Prompt, lost: Callable[[], bool]) -> Answer:
        return language_model_answer(case, prompt, model.complete(prompt, should_stop=lost))


def _found(job: JobRow, answer: Answer, *, without_model: bool = False) -> Found:
    values: dict[str, Any] = {"answer": answer.model_dump(mode="json")}
    if without_model:
        missed = Warning(
            code="no_language_model",
            detail="The language model could not be used; the answer comes from the reference texts.",
        )
        values["warnings"] = [*(job.warnings or ()), missed.model_dump()]
    return Found(values)
