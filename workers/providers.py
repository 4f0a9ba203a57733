"""Which language models there are, in which order they are asked, and when none of them is."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from shared.errors import AnswerRejected, LanguageModelUnavailable, ModelsAway, StaleAttempt
from shared.figures import PROVIDERS, Figures
from shared.settings import Settings
from workers.breaker import Breaker
from workers.hanging_up import ShouldStop
from workers.limits import Limiter, Rates
from workers.llm import Completion, LanguageModel, OnDelta, OpenAICompatible
from workers.prompt import Prompt

REPLY_TOKENS = 800  # what a reply costs when nothing limits it

log = structlog.get_logger(__name__)


@dataclass
class Provider:
    """A language model with what protects it from us, and us from it."""

    name: str
    model: LanguageModel
    limiter: Limiter | None = None
    breaker: Breaker = field(default_factory=Breaker)


class Providers:
    """Asks the first provider that can be asked; the next one when it fails, or refuses our key or the model's name.

    Raises: ModelsAway when none may be asked now (its `retry_after_s` says when to look again);
    the last provider's error when all that were asked failed; any other AnswerRejected and StaleAttempt at once
    """

    def __init__(self, providers: Sequence[Provider], figures: Figures | None = None) -> None:
        self.providers, self._figures = tuple(providers), figures or Figures()

    def complete(
        self, prompt: Prompt, *, on_delta: OnDelta | None = None, should_stop: ShouldStop | None = None
    ) -> Completion:
        failure: LanguageModelUnavailable | AnswerRejected | None = None
        waits: list[float] = []
        for place, provider in zip(PROVIDERS, self.providers, strict=False):
            wait_s = self._wait_s(provider, prompt)
            if wait_s is not None:
                waits.append(wait_s)
                continue
            try:
                return self._call(place, provider, prompt, on_delta, should_stop)
            except (LanguageModelUnavailable, AnswerRejected) as error:
                if isinstance(error, AnswerRejected) and not error.elsewhere:
                    raise
                log.warning("provider_failed", provider=provider.name, detail=error.detail)
                failure = error
        if failure is not None:
            raise failure
        raise ModelsAway(retry_after_s=round(min(waits)) or 1)

    def _wait_s(self, provider: Provider, prompt: Prompt) -> float | None:
        """None when it may be asked. The limit is looked at last, since looking counts the call."""
        closed_s = provider.breaker.admit()
        if closed_s is not None or provider.limiter is None:
            return closed_s
        limited_s = provider.limiter.wait_s(prompt, REPLY_TOKENS)
        if limited_s is not None:
            provider.breaker.abandoned()  # it may have admitted this call as the one that looks
        return limited_s

    def _call(
        self,
        place: str,
        provider: Provider,
        prompt: Prompt,
        on_delta: OnDelta | None,
        should_stop: ShouldStop | None,
    ) -> Completion:
        try:
            with self._counted(place):
                completion = provider.model.complete(prompt, on_delta=on_delta, should_stop=should_stop)
        except LanguageModelUnavailable as error:
            provider.breaker.failed(error.retry_after_s)
            raise
        except BaseException:
            provider.breaker.abandoned()
            raise
        provider.breaker.succeeded()
        self._figures.llm_tokens.labels(place, "input").inc(completion.input_tokens)
        self._figures.llm_tokens.labels(place, "output").inc(completion.output_tokens)
        return completion

    @contextmanager
    def _counted(self, place: str) -> Iterator[None]:
        """The time of one call, by how it ended."""
        began, outcome = time.monotonic(), "unavailable"
        try:
            yield
            outcome = "replied"
        except AnswerRejected:
            outcome = "rejected"
            raise
        except StaleAttempt:
            outcome = "stopped"
            raise
        finally:
            self._figures.llm_seconds.labels(place, outcome).observe(time.monotonic() - began)


def make_providers(settings: Settings, figures: Figures | None = None) -> Providers | None:
    """Those that the settings name; None for `reference`."""
    if settings.answers == "reference":
        return None
    extra = json.loads(settings.openai_extra or "{}")
    first = OpenAICompatible(
        settings.openai_base_url,
        settings.openai_api_key,
        settings.openai_model,
        total_timeout_s=settings.openai_timeout_s,
        first_token_s=settings.openai_first_token_s,
        extra=extra,
        azure_version=settings.azure_api_version if settings.answers == "azure" else "",
    )
    rates = Rates(settings.openai_calls_a_minute, settings.openai_tokens_a_minute)
    limiter = Limiter(settings, rates, settings.openai_model) if rates != Rates() else None
    providers = [Provider(settings.openai_model, first, limiter)]
    if settings.fallback_base_url:
        second = OpenAICompatible(
            settings.fallback_base_url,
            settings.fallback_api_key,
            settings.fallback_model,
            total_timeout_s=settings.openai_timeout_s,
            first_token_s=settings.openai_first_token_s,
        )
        providers.append(Provider(settings.fallback_model, second))
    return Providers(providers, figures)
