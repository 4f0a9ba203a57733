"""Calls and tokens a minute for one language model, counted in Redis over all workers."""

from dataclasses import dataclass

import structlog
from limits import RateLimitItemPerMinute
from limits.errors import StorageError
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from shared.settings import Settings
from workers.prompt import Prompt

FULL_S = 10.0  # until a full minute is worth another look
CHARACTERS_A_TOKEN = 2  # a careful guess: Korean needs more tokens than English for the same text

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Rates:
    """What a minute may hold; 0: no limit."""

    calls: int = 0
    tokens: int = 0


class Limiter:
    """Counts before a call, since afterwards is too late. Without Redis nothing is limited: the server is."""

    def __init__(self, settings: Settings, rates: Rates, name: str) -> None:
        url = settings.redis_location.replace("unix://", "redis+unix://", 1)
        storage = RedisStorage(url, key_prefix="medq.llm", wrap_exceptions=True, socket_timeout=1.0)
        self._window = SlidingWindowCounterRateLimiter(storage)
        self._name = name
        self._items = [
            (RateLimitItemPerMinute(limit, 1, kind), kind)
            for kind, limit in (("calls", rates.calls), ("tokens", rates.tokens))
            if limit
        ]

    def wait_s(self, prompt: Prompt, reply_tokens: int) -> float | None:
        """None when the call may be made, and is counted; else the seconds until it is worth another look."""
        written = sum(len(message["content"]) for message in prompt.messages)
        guessed = {"calls": 1, "tokens": written // CHARACTERS_A_TOKEN + reply_tokens}
        # A single call that is larger than the limit must not wait for ever.
        costs = {kind: min(guessed[kind], item.amount) for item, kind in self._items}
        try:
            for item, kind in self._items:
                if not self._window.test(item, self._name, cost=costs[kind]):
                    return FULL_S
            for item, kind in self._items:
                self._window.hit(item, self._name, cost=costs[kind])
        except StorageError:
            log.warning("limits_not_counted", model=self._name)
        return None
