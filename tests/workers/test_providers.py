"""Which provider is asked: breaker, fallback, limits, and what parks a job."""

import pytest

from shared.errors import AnswerRejected, LanguageModelUnavailable, ModelsAway, StaleAttempt
from shared.figures import Figures
from shared.settings import Settings
from workers.breaker import FAILURES, FIRST_PAUSE_S, Breaker
from workers.limits import Limiter, Rates
from workers.llm import ScriptedModel
from workers.prompt import Message, Prompt
from workers.providers import Provider, Providers, make_providers

PROMPT = Prompt("findings", "0" * 64, (Message(role="user", content="x" * 100),))
AWAY = LanguageModelUnavailable("away")


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def provider(replies, name="first", **more):
    return Provider(name, ScriptedModel(replies, name), **more)


def test_the_second_provider_answers_when_the_first_fails():
    both = Providers([provider([AWAY]), provider(["hello"], "second")])
    assert both.complete(PROMPT).model == "second"


def test_calls_are_counted_by_provider_and_how_they_end():
    figures = Figures()
    asked = Providers([provider([AWAY, AnswerRejected("no")]), provider(["hello"], "second")], figures)
    asked.complete(PROMPT)
    with pytest.raises(AnswerRejected):
        asked.complete(PROMPT)
    counted = {name: value for name, value in figures.values().items() if "_count" in name and value}
    assert counted == {
        'medq_llm_seconds_count{"outcome": "unavailable", "provider": "first"}': 1,
        'medq_llm_seconds_count{"outcome": "rejected", "provider": "first"}': 1,
        'medq_llm_seconds_count{"outcome": "replied", "provider": "second"}': 1,
    }
    tokens = figures.values()['medq_llm_tokens_total{"kind": "output", "provider": "second"}']
    assert tokens > 0


@pytest.mark.parametrize("error", [AnswerRejected("no"), StaleAttempt("stopped")])
def test_what_is_no_outage_goes_to_no_second_provider(error):
    second = provider(["hello"], "second")
    with pytest.raises(type(error)):
        Providers([provider([error]), second]).complete(PROMPT)
    assert second.model.prompts == []


def test_who_refuses_our_key_leaves_the_question_to_the_second_provider():
    refused = AnswerRejected("401")
    refused.elsewhere = True
    first, second = provider([refused, refused]), provider(["hello"], "second")
    assert Providers([first, second]).complete(PROMPT).model == "second"
    with pytest.raises(AnswerRejected, match="401"):
        Providers([first]).complete(PROMPT)


def test_a_provider_that_keeps_failing_is_left_alone_and_then_asked_once():
    clock = Clock()
    one = provider([AWAY] * FAILURES + [AWAY, "hello", "again"], breaker=Breaker(clock))
    only = Providers([one])
    for _ in range(FAILURES):
        with pytest.raises(LanguageModelUnavailable):
            only.complete(PROMPT)
    with pytest.raises(ModelsAway) as parked:
        only.complete(PROMPT)
    assert parked.value.parks
    assert 1 <= parked.value.retry_after_s <= 2 * FIRST_PAUSE_S
    assert len(one.model.prompts) == FAILURES
    clock.now += 2 * FIRST_PAUSE_S
    with pytest.raises(LanguageModelUnavailable):
        only.complete(PROMPT)  # the one call that looks whether it is back
    with pytest.raises(ModelsAway):
        only.complete(PROMPT)
    clock.now += 1_000
    assert [only.complete(PROMPT).text, only.complete(PROMPT).text] == ["hello", "again"]


def test_while_one_call_looks_the_others_wait():
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(FAILURES):
        breaker.failed()
    clock.now += 100
    assert breaker.admit() is None
    assert breaker.admit() is not None
    breaker.abandoned()
    assert breaker.admit() is None


def test_retry_after_is_never_undercut():
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(FAILURES):
        breaker.failed(retry_after_s=500)
    clock.now += 499
    assert breaker.admit() == 1.0


def test_limits_are_shared_by_all_workers(broker):
    settings = Settings(broker_url=broker.url)
    one, other = (Limiter(settings, Rates(calls=2), "m") for _ in range(2))
    assert [one.wait_s(PROMPT, 10), other.wait_s(PROMPT, 10)] == [None, None]
    assert one.wait_s(PROMPT, 10) >= 1
    assert Limiter(settings, Rates(calls=2), "another").wait_s(PROMPT, 10) is None


def test_tokens_are_counted_before_they_are_spent(broker):
    limiter = Limiter(Settings(broker_url=broker.url), Rates(tokens=100), "m")
    assert limiter.wait_s(PROMPT, 10) is None  # 100 characters: 50 tokens, and 10 of the reply
    assert limiter.wait_s(PROMPT, 10) is not None


def test_a_call_larger_than_the_limit_is_made_alone(broker):
    limiter = Limiter(Settings(broker_url=broker.url), Rates(tokens=5), "m")
    assert limiter.wait_s(PROMPT, 10) is None
    assert limiter.wait_s(PROMPT, 10) is not None


def test_without_a_broker_nothing_is_limited(tmp_path):
    limiter = Limiter(Settings(broker_url=f"unix://{tmp_path}/none.sock"), Rates(calls=1), "m")
    assert [limiter.wait_s(PROMPT, 1), limiter.wait_s(PROMPT, 1)] == [None, None]


def test_a_provider_that_is_left_alone_uses_up_no_limit(broker):
    clock = Clock()
    breaker, limiter = Breaker(clock), Limiter(Settings(broker_url=broker.url), Rates(calls=1), "m")
    for _ in range(FAILURES):
        breaker.failed()
    with pytest.raises(ModelsAway):
        Providers([provider([], limiter=limiter, breaker=breaker)]).complete(PROMPT)
    assert limiter.wait_s(PROMPT, 1) is None  # the one call of this minute is still there


def test_a_call_that_a_limit_holds_back_is_not_the_one_that_looks(broker):
    clock = Clock()
    breaker, limiter = Breaker(clock), Limiter(Settings(broker_url=broker.url), Rates(calls=1), "m")
    for _ in range(FAILURES):
        breaker.failed()
    clock.now += 1_000
    assert limiter.wait_s(PROMPT, 1) is None  # by somebody else
    with pytest.raises(ModelsAway):
        Providers([provider([], limiter=limiter, breaker=breaker)]).complete(PROMPT)
    assert breaker.admit() is None


def test_a_limit_parks_the_job(broker):
    limiter = Limiter(Settings(broker_url=broker.url), Rates(calls=1), "m")
    only = Providers([provider(["a", "b"], limiter=limiter)])
    assert only.complete(PROMPT).text == "a"
    with pytest.raises(ModelsAway):
        only.complete(PROMPT)


def test_settings_name_the_providers(broker):
    assert make_providers(Settings()) is None
    url = "http://127.0.0.1:1/v1"
    plain = {"answers": "openai", "openai_api_key": "k", "openai_base_url": url, "broker_url": broker.url}
    one = make_providers(Settings(**plain, openai_extra='{"top_k": 10}', openai_calls_a_minute=5))
    assert [(p.name, p.limiter is not None) for p in one.providers] == [("gpt-4.1-mini", True)]
    assert one.providers[0].model.extra == {"top_k": 10}
    two = make_providers(Settings(**plain, fallback_base_url=url, fallback_model="hari"))
    assert [p.name for p in two.providers] == ["gpt-4.1-mini", "hari"]
    for each in (*one.providers, *two.providers):
        each.model.close()
