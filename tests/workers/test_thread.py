"""Answers to messages: what was found is the job's, what was said before is in the prompt, and danger told once counts."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from shared import jobs, messages
from shared.database import Database
from shared.errors import AnswerRejected
from shared.ids import new_id
from shared.job_types import NewJob, Outcome
from shared.lifecycle import Event
from shared.messages import Thread
from shared.tables import JobRow
from tests.answers_eval.replies import good
from tests.workers.cases import job
from workers.answer import AnswerStage, case_of
from workers.llm import ScriptedModel
from workers.phrases import PHRASES
from workers.prompt import TURN_SHOWN, TURNS_SHOWN, build_prompt
from workers.urgency import floor

GOOD = json.dumps(good("en", "mel_clear"))


def message(text: str, lang: str = "en") -> JobRow:
    return JobRow(
        id=new_id(), pipeline="skin", question=text, lang=lang, external=True, failures=0, attempt=1, message_of="a", turn=9
    )  # fmt: skip


def root(question: str = "Is it dangerous?", name: str = "mel_clear", lang: str = "en") -> JobRow:
    row = job(name, lang, question)
    row.answer = {"text": "The picture suggests melanoma."}
    return row


def said(text: str, thread: Thread, model: Any = None) -> dict[str, Any]:
    stage = AnswerStage(model, 3, before=lambda _: thread)
    found: dict[str, Any] = stage.begin(message(text), lambda: False)().values["answer"]
    return found


def data(prompt: Any, tag: str) -> Any:
    user = prompt.messages[1]["content"]
    return json.loads(user.split(f"<{tag}>")[1].split(f"</{tag}>")[0])


def test_a_message_rests_on_what_was_found_in_its_job() -> None:
    seen = root()
    case = case_of(message("Does it spread?"), thread=Thread(seen, ()))
    first = case_of(seen)
    assert (case.findings, case.age, case.sex, case.site) == (
        first.findings,
        first.age,
        first.sex,
        first.site,
    )
    assert case.question == "Does it spread?"


def test_the_prompt_holds_the_thread_in_order_and_of_a_long_one_the_end() -> None:
    earlier = [message(f"Question {n}?") for n in range(9)]
    for row in earlier:
        row.answer = {"text": "x" * 5_000}
    case = case_of(message("And now?"), thread=Thread(root(), tuple(earlier)))
    shown = data(build_prompt(case), "thread")
    assert [turn["asked"] for turn in shown] == [f"Question {n}?" for n in range(9 - TURNS_SHOWN, 9)]
    assert {len(turn["answered"]) for turn in shown} == {TURN_SHOWN}


def test_a_first_question_has_no_thread() -> None:
    assert data(build_prompt(case_of(root())), "thread") == []


def test_what_names_a_person_leaves_in_no_turn() -> None:
    model = ScriptedModel([GOOD])
    thread = Thread(root("My name is Ann Example. Is it bad?"), (message("Call me on +44 20 7946 0018."),))
    said("Is it dangerous?", thread, model)
    sent = str(model.prompts[0].messages)
    assert "[name]" in sent
    assert not [part for part in ("Ann", "Example", "7946") if part in sent]


def test_a_model_that_is_asked_again_passes_the_same_checks() -> None:
    answer = said("Is it dangerous?", Thread(root(), ()), ScriptedModel([GOOD]))
    assert answer["source"] == "language_model"
    bad = json.dumps(good("en", "mel_clear") | {"urgency": "self_care"})
    answer = said("Is it dangerous?", Thread(root(), ()), ScriptedModel([bad, bad]))
    assert (answer["source"], answer["urgency"]) == ("reference", "within_days")


@pytest.mark.parametrize(
    "thread",
    [
        Thread(root("It won't stop bleeding"), ()),
        Thread(root(), (message("It won't stop bleeding"),)),
    ],
)
def test_danger_that_was_told_once_still_counts(thread: Thread) -> None:
    model = ScriptedModel([])
    answer = said("And what is a mole?", thread, model)
    assert answer["urgency"] == "emergency"
    assert answer["text"].startswith(PHRASES["en"].emergency)
    assert not model.prompts


def test_without_a_model_a_message_gets_what_our_texts_say_about_it() -> None:
    answer = said("Which colours and edges are signs to watch for?", Thread(root(), ()))
    assert PHRASES["en"].nearest in answer["text"]
    assert "skin/mel/looks" in {cited["id"] for cited in answer["citations"]}
    assert "What the picture suggests" not in answer["text"]


@pytest.mark.parametrize(
    ("lang", "text"), [("en", "Can I swim?"), ("ko", "수영해도 되나요?"), ("fr", "Puis-je nager ?")]
)
def test_where_no_text_of_ours_answers_it_is_told_so(lang: str, text: str) -> None:
    stage = AnswerStage(None, 3, before=lambda _: Thread(root(lang=lang), ()))
    answer = stage.begin(message(text, lang), lambda: False)().values["answer"]
    assert PHRASES[lang].unanswered in answer["text"]  # type: ignore[index]
    assert answer["next_step"] in answer["text"]
    assert answer["citations"] == []


def test_a_picture_that_cannot_be_read_is_not_read_for_a_message_either() -> None:
    seen = root()
    seen.warnings = [{"code": "out_of_distribution", "detail": ""}]
    answer = said("What are the signs of melanoma?", Thread(seen, ()))
    assert PHRASES["en"].no_result in answer["text"]
    assert answer["citations"] == []


def test_the_thread_is_read_from_the_rows(database: Database, job_factory: Callable[..., NewJob]) -> None:
    first = job_factory(question="Is it bad?")
    claim = jobs.claim(database, [first.id], "vision", "test", lease_s=30, limit_s=60)
    values = {"findings": job().findings, "answer": {"text": "See a doctor."}}
    jobs.record(
        database, [Outcome(first.id, claim.id, Event.FINISH, values)], max_attempts=3, redispatch_s=30
    )
    row = database.read(lambda session: session.get(JobRow, first.id))
    assert row is not None
    for text in ("And now?", "And then?"):
        new = messages.following(database, row, new_id(), text, "en", most=20)
        assert jobs.create(database, new, 30)
        claim = jobs.claim(database, [new.id], "answer", "test", lease_s=30, limit_s=60)
        stage = AnswerStage(None, 3, before=partial(messages.before, database))
        found = stage.begin(claim.jobs[0], lambda: False)().values
        jobs.record(
            database, [Outcome(new.id, claim.id, Event.FINISH, found)], max_attempts=3, redispatch_s=30
        )
    last = database.read(lambda session: messages.of(session, first.id))[-1]
    thread = messages.before(database, last)
    assert thread is not None
    case = case_of(last, thread=thread)
    assert [turn.question for turn in case.thread or ()] == ["Is it bad?", "And now?"]
    assert floor(case) == "within_days"
    assert messages.before(database, row) is None
    jobs.erase(database, first.id, jobs.Actor("", ""))
    with pytest.raises(AnswerRejected):
        messages.before(database, last)
