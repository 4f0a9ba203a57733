"""What calls cost is counted for the owner, and a month that is used up is answered without a model."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import update

from shared import usage
from shared.database import Database
from shared.tables import UsageRow
from tests.answers_eval.replies import good
from tests.workers.cases import job
from workers.answer import AnswerStage
from workers.limits import CHARACTERS_A_TOKEN
from workers.llm import Completion, ScriptedModel
from workers.meter import Meter
from workers.prompt import Prompt

GOOD = json.dumps(good("en", "mel_clear"))
PROMPT = Prompt("findings", "0" * 64, ({"role": "user", "content": "x" * 600},))


def answered(database: Database, model: Any, cap: int = 0, owner: str = "anna") -> dict[str, Any]:
    stage = AnswerStage(model, 3, meter=Meter(database, cap))
    found: dict[str, Any] = stage.begin(job(owner=owner), lambda: False)().values["answer"]
    return found


def test_every_call_counts_and_so_does_one_whose_reply_is_withheld(database: Database) -> None:
    answered(database, ScriptedModel(["mole mole", GOOD]))
    month, (row,) = usage.of(database, "anna")
    assert (row.model, row.calls) == ("scripted", 2)
    assert row.output_tokens == len(["mole", "mole"]) + len(GOOD.split(" "))
    assert row.input_tokens > 0
    assert usage.spent(database, "anna") == row.input_tokens + row.output_tokens
    assert len(month) == 7
    assert usage.spent(database, "ben") == 0


def test_a_month_that_is_used_up_is_answered_without_a_model(database: Database) -> None:
    model = ScriptedModel([GOOD])
    assert answered(database, model, cap=10)["source"] == "language_model"
    refused = answered(database, model, cap=10)
    assert refused["source"] == "reference"
    assert "used up" in refused["refused_reason"]
    assert len(model.prompts) == 1
    assert answered(database, ScriptedModel([GOOD]), cap=10, owner="ben")["source"] == "language_model"


def test_another_month_begins_with_nothing(database: Database) -> None:
    usage.add(database, "anna", "scripted", input_tokens=5, output_tokens=6)
    database.write(lambda session: session.execute(update(UsageRow).values(month="2026-01")))
    assert usage.spent(database, "anna") == 0
    assert usage.of(database, "anna", "2026-01")[1][0].calls == 1


def test_calls_at_once_are_all_counted(database: Database) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: usage.add(database, "anna", "m", input_tokens=n, output_tokens=1), range(40)))
    _, (row,) = usage.of(database, "anna")
    assert (row.calls, row.input_tokens, row.output_tokens) == (40, sum(range(40)), 40)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_tokens_that_no_server_counts_are_guessed(database: Database) -> None:
    Meter(database, 0).count("anna", PROMPT, Completion("y" * 80, "m"))
    _, (row,) = usage.of(database, "anna")
    assert (row.input_tokens, row.output_tokens) == (600 // CHARACTERS_A_TOKEN, 80 // CHARACTERS_A_TOKEN)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_name_that_is_no_ascii_and_too_long_is_kept_as_far_as_it_fits(database: Database) -> None:
    usage.add(database, "anna", "모델" * 100, input_tokens=1, output_tokens=1)
    assert usage.of(database, "anna")[1][0].model == "모델" * 64
