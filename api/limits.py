"""Requests a minute per key, counted on Redis for all processes together, or in this one while Redis is away."""

import math
import time
from typing import Any, cast

from flask import Flask, Response
from flask_limiter import Limiter, RateLimitExceeded

from api import problems
from api.auth import known_key
from api.services import services
from shared.errors import TooManyRequests
from shared.settings import Settings

PATIENCE_S = 0.25  # a Redis that does not answer costs one request this, then none for seconds


def install(app: Flask, settings: Settings) -> None:
    """After the guard: it says whose request this is."""
    if settings.auth == "open":
        return  # nobody to count for, and nothing to pay for it
    limiter = Limiter(
        _whose,
        app=app,
        application_limits=[_allowed],
        strategy="moving-window",  # so that the wait until the oldest request falls out of it is exact
        storage_uri=settings.redis_location.replace("unix://", "redis+unix://", 1),
        storage_options=cast(Any, {"socket_timeout": PATIENCE_S, "socket_connect_timeout": PATIENCE_S}),
        in_memory_fallback=cast(Any, [_allowed]),
        key_prefix="medq",
    )

    # Of the limiter's ways to exempt the only one that holds while it counts in memory too.
    limiter.request_filter(lambda: known_key() is None)

    def refused(_: RateLimitExceeded) -> Response:
        limit = limiter.current_limit
        left_s = limit.reset_at - time.time() if limit else 60.0
        return problems.refused(TooManyRequests(retry_after_s=max(1, math.ceil(left_s))))

    app.register_error_handler(RateLimitExceeded, refused)


def _whose() -> str:
    key = known_key()
    assert key is not None
    return key.id


def _allowed() -> str:
    key = known_key()
    own = key.per_minute if key else None
    return f"{own or services().settings.key_per_minute}/minute"
