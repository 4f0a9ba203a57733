"""The contract over a real OpenAI-compatible server, whose words must never reach a reader."""

from collections.abc import Iterator

import pytest

from shared.errors import AnswerRejected, LanguageModelUnavailable, StaleAttempt
from tests.smollm2 import SmolLM2
from tests.workers.cases import job
from workers.answer import AnswerStage
from workers.llm import OpenAICompatible
from workers.prompt import Message, Prompt

PROMPT = Prompt("findings", "0" * 64, (Message(role="user", content="Say hello."),))


@pytest.fixture(scope="module")
def server() -> Iterator[SmolLM2]:
    started = SmolLM2()
    try:
        yield started.start()
    finally:
        started.close()


def model(server: SmolLM2, tokens: int) -> OpenAICompatible:
    """On a machine that is busy with other things even these few tokens may take a while."""
    extra = {"max_tokens": tokens, "temperature": 0.8, "seed": 1}
    return server.model(extra=extra, total_timeout_s=120)


def test_pieces_arrive_and_an_answer_cut_by_its_limit_is_rejected(server: SmolLM2) -> None:
    pieces: list[str] = []
    with pytest.raises(AnswerRejected, match="longer than its limit"):
        model(server, 12).complete(PROMPT, on_delta=pieces.append)
    assert len(pieces) > 1
    assert "".join(pieces).lstrip().startswith("{")  # the schema is held to from the first token


def test_a_call_that_is_no_longer_wanted_stops(server: SmolLM2) -> None:
    pieces: list[str] = []
    with pytest.raises(StaleAttempt):
        model(server, 500).complete(PROMPT, on_delta=pieces.append, should_stop=lambda: bool(pieces))


def test_its_words_do_not_reach_a_reader(server: SmolLM2) -> None:
    stage = AnswerStage(model(server, 24), max_attempts=1)  # `make eval-answers` lets it speak to its end
    answer = stage.begin(job("nv_clear", "en", "Will it become cancer?"), lambda: False)().values["answer"]
    assert answer["source"] == "reference"
    assert answer["refused_reason"]


def test_a_server_that_is_killed_is_away(server: SmolLM2) -> None:
    server.kill()
    with pytest.raises(LanguageModelUnavailable):
        model(server, 12).complete(PROMPT)
