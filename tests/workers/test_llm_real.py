"""The contract over a real OpenAI-compatible server, by itself and behind Azure's face; its words must never be read."""

from collections.abc import Callable, Iterator

import pytest

from shared.errors import AnswerRejected, LanguageModelUnavailable, StaleAttempt
from tests import azure
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


Make = Callable[[int], OpenAICompatible]


@pytest.fixture(params=["openai", "azure"])
def model(request: pytest.FixtureRequest, server: SmolLM2) -> Iterator[Make]:
    """A client that asks for so many tokens. On a busy machine even these few may take a while."""
    extra = {"temperature": 0.8, "seed": 1}
    clients: list[OpenAICompatible] = []

    def direct(tokens: int) -> OpenAICompatible:
        clients.append(server.model(extra=extra | {"max_tokens": tokens}, total_timeout_s=120))
        return clients[-1]

    def by_azure(tokens: int) -> OpenAICompatible:
        known = {"azure_version": azure.VERSION, "extra": extra | {"max_tokens": tokens}}
        clients.append(OpenAICompatible(url, azure.KEY, azure.DEPLOYMENT, total_timeout_s=120, **known))
        return clients[-1]

    with azure.fronting(server.port) as url:
        yield direct if request.param == "openai" else by_azure
        for client in clients:
            client.close()


def test_pieces_arrive_and_an_answer_cut_by_its_limit_is_rejected(model: Make) -> None:
    pieces: list[str] = []
    with pytest.raises(AnswerRejected, match="longer than its limit"):
        model(12).complete(PROMPT, on_delta=pieces.append)
    assert len(pieces) > 1
    assert "".join(pieces).lstrip().startswith("{")  # the schema is held to from the first token


def test_a_call_that_is_no_longer_wanted_stops(model: Make) -> None:
    pieces: list[str] = []
    with pytest.raises(StaleAttempt):
        model(500).complete(PROMPT, on_delta=pieces.append, should_stop=lambda: bool(pieces))


def test_its_words_do_not_reach_a_reader(model: Make) -> None:
    stage = AnswerStage(model(24), max_attempts=1)  # `make eval-answers` lets it speak to its end
    answer = stage.begin(job("nv_clear", "en", "Will it become cancer?"), lambda: False)().values["answer"]
    assert answer["source"] == "reference"
    assert answer["refused_reason"]


def test_a_server_that_is_killed_is_away(server: SmolLM2, model: Make) -> None:
    server.kill()
    with pytest.raises(LanguageModelUnavailable):
        model(12).complete(PROMPT)
