"""The answer stage: findings and a question to an answer in words."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, cast

import structlog
from pydantic import BaseModel

from shared.catalog import Lang
from shared.drafts import Draft, Written
from shared.errors import AnswerRejected, LanguageModelUnavailable, ModelsAway
from shared.messages import Thread
from shared.queue import Hints
from shared.schemas import Answer, Check, Finding, Grade, Segment, Warning
from shared.sentences import sentences
from shared.steps import step
from shared.tables import JobRow
from workers import checks
from workers.attempt import Found
from workers.encoder import Encoder
from workers.knowledge import measured_labels, names_of, retrieve
from workers.llm import Completion, LanguageModel, OnDelta
from workers.meter import Meter
from workers.prompt import Case, Prompt, Turn, build_prompt, corrected
from workers.redact import redacted
from workers.reference import language_model_answer, reference_answer, refused
from workers.reply import NotAReply, parse
from workers.shelf import Shelf
from workers.urgency import floor

TRIES = 2  # a reply that fails its checks is asked for once more, with the reasons

T = TypeVar("T", bound=BaseModel)

log = structlog.get_logger(__name__)


def case_of(job: JobRow, shelf: Shelf | None = None, thread: Thread | None = None) -> Case:
    """All that the answer may rest on: the row, or the one that a message is about, and texts that were added."""
    seen = thread.root if thread else job
    found = tuple(Finding.model_validate(finding) for finding in seen.findings or ())
    segments, grades = _parsed(Segment, seen.segments), _parsed(Grade, seen.grades)
    measured = () if found else measured_labels(seen.pipeline, segments, grades)
    question, lang = job.question or "", cast(Lang, job.lang)
    passages = retrieve(seen.pipeline, found, question, lang, measured=measured)
    if shelf:
        matter = [*(finding.label for finding in found if finding.above_threshold), *measured]
        passages += shelf.nearest(question, names_of(seen.pipeline, matter), lang)
    return Case(
        pipeline=seen.pipeline,
        question=question,
        lang=lang,
        age=seen.age,
        sex=seen.sex,  # type: ignore[arg-type]
        site=seen.site,
        findings=found,
        warnings=tuple(Warning.model_validate(warning) for warning in seen.warnings or ()),
        segments=segments,
        grades=grades,
        passages=tuple(passages),
        included=tuple((seen.model or {}).get("clinical", ())),
        thread=_turns(thread),
    )


def _turns(thread: Thread | None) -> tuple[Turn, ...] | None:
    """Every question counts, answered or not: it may have told of danger."""
    if thread is None:
        return None
    rows = (thread.root, *thread.earlier)
    return tuple(Turn(row.question or "", (row.answer or {}).get("text", "")) for row in rows)


def _without_names(case: Case) -> Case:
    """What leaves the house; answers hold nothing that a person wrote."""
    thread = case.thread and tuple(replace(turn, question=redacted(turn.question)) for turn in case.thread)
    return replace(case, question=redacted(case.question), thread=thread)


def _parsed(body: type[T], column: list[Any] | None) -> tuple[T, ...] | None:
    return None if column is None else tuple(body.model_validate(item) for item in column)


class Withheld(Exception):
    """What a language model wrote failed its checks on every try.

    The message names the checks and nothing that the model said: readers and logs see it.
    """

    def __init__(self, outcomes: Sequence[Check]) -> None:
        self.outcomes = tuple(outcomes)
        names = ", ".join(check.name for check in outcomes if not check.passed)
        super().__init__(f"The language model's reply failed these checks: {names}.")


class AnswerStage:
    """Asks the language model, and answers by reference texts when there is none or it may not be asked.

    The findings are worth reading without a model's words: a model that stays away through every attempt,
    or says what cannot be used, costs the job a warning and not its life.
    """

    name = "answer"

    def __init__(
        self,
        model: LanguageModel | None,
        max_attempts: int,
        hints: Hints | None = None,
        longest_wait_s: float = 600.0,
        shelf: Shelf | None = None,
        before: Callable[[JobRow], Thread | None] = lambda _: None,
        meter: Meter | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        """`before` finds the thread that a message stands in; `meter` counts what owners' calls cost.

        With an `encoder` our own texts are found by their meaning, too.
        """
        self._shelf, self._before, self._meter = shelf, before, meter
        self._model, self._max_attempts, self._hints = model, max_attempts, hints
        self._longest_wait_s, self._encoder = longest_wait_s, encoder

    def begin(self, job: JobRow, lost: Callable[[], bool]) -> Callable[[], Found]:
        return lambda: self._answer(job, lost)

    def slow(self, job: JobRow) -> bool:
        """A language model may be asked, and takes its time."""
        return self._model is not None

    def _answer(self, job: JobRow, lost: Callable[[], bool]) -> Found:
        case = case_of(job, self._shelf, self._before(job))
        prompt = build_prompt(_without_names(case), lowest=floor(case))
        by_reference = partial(reference_answer, case, prompt, encoder=self._encoder)
        if self._model is None:
            return _found(job, by_reference())
        if reason := unasked(job, case) or self._used_up(job):
            return _found(job, by_reference(reason))
        try:
            answer = self._ask(self._model, job, case, prompt, lost)
        except ModelsAway as error:
            if _waited_s(job) < self._longest_wait_s:
                raise
            answer = by_reference(error.detail)
        except LanguageModelUnavailable as error:
            if job.failures + 1 < self._max_attempts:
                raise
            answer = by_reference(error.detail)
        except AnswerRejected as error:
            answer = by_reference(error.detail)
        except Withheld as withheld:
            answer = by_reference(str(withheld), withheld.outcomes)
        if answer.source == "reference":
            log.warning("answered_by_reference", job_id=job.id, detail=answer.refused_reason)
            return _found(job, answer, without_model=True)
        self._tell(job, answer.text)
        return _found(job, answer)

    def _ask(
        self, model: LanguageModel, job: JobRow, case: Case, prompt: Prompt, lost: Callable[[], bool]
    ) -> Answer:
        count = partial(self._count, job)
        if self._hints is None:
            return ask(model, case, prompt, lost, count)
        written = Written(self._hints, job.id, job.attempt)
        return ask(model, case, prompt, written.telling(lost), count, written.count)

    def _used_up(self, job: JobRow) -> str | None:
        return self._meter.refusal(job.owner) if self._meter else None

    def _count(self, job: JobRow, prompt: Prompt, completion: Completion) -> None:
        if self._meter:
            self._meter.count(job.owner, prompt, completion)

    def _tell(self, job: JobRow, text: str) -> None:
        """Sentence by sentence to people who watch; only now, since a reply is checked as a whole.

        The urgency and the citations decide about every sentence, so nothing of a reply is shown before its end.
        """
        if self._hints is None:
            return
        draft = Draft(self._hints, job.id, job.attempt)
        for sentence in sentences(text):
            draft.add(sentence + " ")
        draft.end()


def unasked(job: JobRow, case: Case) -> str | None:
    """Why no language model is asked about this job; None when one is."""
    if not job.external:
        return "The job was submitted with external=false."
    if not case.findings:
        return "The pipeline measures and names no findings, so that a reply could not be checked."
    if floor(case) == "emergency":
        return "The question tells of an emergency, which no language model is asked about."
    return refused(case)


def ask(
    model: LanguageModel,
    case: Case,
    prompt: Prompt,
    lost: Callable[[], bool],
    count: Callable[[Prompt, Completion], None],
    on_delta: OnDelta | None = None,
) -> Answer:
    """A reply that passed every check, at the second try at the latest; `count` hears of every call.

    Raises: Withheld; and what the model raises
    """
    asked, used = prompt, Completion("", "")
    for left in reversed(range(TRIES)):
        with step("language_model") as told:
            completion = model.complete(asked, on_delta=on_delta, should_stop=lost)
            told |= _usage(completion)
        count(asked, completion)
        used = _added(used, completion)
        outcomes, reasons, answer = judge(case, prompt, used)
        if answer is not None:
            return answer
        if not left:
            raise Withheld(outcomes)
        asked = corrected(prompt, completion.text, reasons)
    raise AssertionError("unreachable")


def judge(case: Case, prompt: Prompt, completion: Completion) -> tuple[list[Check], list[str], Answer | None]:
    """The checks' outcomes, the reasons of those that failed, and the answer if none did."""
    try:
        reply = parse(completion.text)
    except NotAReply as error:
        return [Check(name="schema", passed=False)], [f"schema: {error}"], None
    outcomes, reasons = checks.run(case, reply)
    outcomes = [Check(name="schema", passed=True), *outcomes]
    if reasons:
        return outcomes, reasons, None
    return outcomes, [], language_model_answer(case, prompt, completion, reply, outcomes)


def _usage(completion: Completion) -> dict[str, str | int]:
    """By OpenTelemetry's names for calls of language models; servers may leave any of it out."""
    told: dict[str, str | int] = {
        "gen_ai.response.model": completion.model,
        "gen_ai.usage.input_tokens": completion.input_tokens,
        "gen_ai.usage.output_tokens": completion.output_tokens,
    }
    return {name: value for name, value in told.items() if value}


def _waited_s(job: JobRow) -> float:
    """Since the submit, by this machine's clock: a few seconds of difference do no harm."""
    return time.time() - job.created_at / 1e6


def _added(used: Completion, now: Completion) -> Completion:
    """What was said last, and what all tries together cost."""
    return replace(
        now,
        input_tokens=used.input_tokens + now.input_tokens,
        output_tokens=used.output_tokens + now.output_tokens,
    )


def _found(job: JobRow, answer: Answer, *, without_model: bool = False) -> Found:
    values: dict[str, Any] = {"answer": answer.model_dump(mode="json")}
    if without_model:
        missed = Warning(
            code="no_language_model",
            detail="The language model could not be used; the answer comes from the reference texts.",
        )
        values["warnings"] = [*(job.warnings or ()), missed.model_dump()]
    return Found(values)
