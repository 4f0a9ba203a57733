"""What settings must not say together, and what no type can hold of one alone."""

import base64
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shared.settings import Settings

DATABASE_SCHEMES = ("sqlite:///", "mysql+pymysql://", "mariadb+pymysql://")
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
RABBIT_SCHEME = "amqp://"
BROKER_SCHEMES = (*REDIS_SCHEMES, RABBIT_SCHEME)
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def contradictions(settings: "Settings") -> list[str]:
    """What is wrong with them, each by the name of the variable to change."""
    wrong = []
    if settings.auth == "open" and settings.host not in LOOPBACK:
        wrong.append(
            "MEDQ_HOST: with MEDQ_AUTH=open the API listens on loopback only, such as 127.0.0.1; MEDQ_AUTH=keys lifts this"
        )
    wrong += _flower_contradictions(settings)
    if settings.database_url and not settings.database_url.startswith(DATABASE_SCHEMES):
        wrong.append(f"MEDQ_DATABASE_URL: must start with one of {', '.join(DATABASE_SCHEMES)}")
    if settings.broker_url and not settings.broker_url.startswith(BROKER_SCHEMES):
        wrong.append(f"MEDQ_BROKER_URL: must start with one of {', '.join(BROKER_SCHEMES)}")
    if settings.redis_url and not settings.redis_url.startswith(REDIS_SCHEMES):
        wrong.append(f"MEDQ_REDIS_URL: must start with one of {', '.join(REDIS_SCHEMES)}")
    if settings.blob_keys and not _are_keys(settings):
        wrong.append(
            "MEDQ_BLOB_KEYS: must be 32 bytes in base64, or several separated by commas, such as of `openssl rand -base64 32`"
        )
    if 0 < len(settings.webhook_secret) < 32:
        wrong.append(
            "MEDQ_WEBHOOK_SECRET: must have at least 32 characters, such as of `openssl rand -hex 32`"
        )
    if settings.bulk_window >= settings.vision_threads:
        wrong.append("MEDQ_BULK_WINDOW: must be smaller than MEDQ_VISION_THREADS")
    if settings.bulk_answers >= settings.answer_threads:
        wrong.append("MEDQ_BULK_ANSWERS: must be smaller than MEDQ_ANSWER_THREADS")
    if settings.answers != "reference" and not settings.openai_api_key:
        wrong.append(
            f"OPENAI_API_KEY: MEDQ_ANSWERS={settings.answers} needs a key (any text for a server that asks none)"
        )
    if settings.fallback_base_url and not settings.fallback_model:
        wrong.append("MEDQ_FALLBACK_MODEL: MEDQ_FALLBACK_BASE_URL needs the name of a model")
    if settings.openai_extra and not _is_object(settings.openai_extra):
        wrong.append("MEDQ_OPENAI_EXTRA: must be a JSON object")
    if settings.prices and not _are_prices(settings.prices):
        wrong.append('MEDQ_PRICES: must be a JSON object such as {"gpt-4.1-mini": [0.4, 1.6]}')
    return wrong


def _flower_contradictions(settings: "Settings") -> list[str]:
    password = settings.flower_password
    if not password:
        reachable = settings.flower_host not in LOOPBACK
        return ["MEDQ_FLOWER_HOST: beyond loopback Flower needs MEDQ_FLOWER_PASSWORD"] if reachable else []
    if len(password) < 16 or not password.isascii() or not password.isprintable():
        return [
            "MEDQ_FLOWER_PASSWORD: must be at least 16 ASCII characters, such as of `openssl rand -hex 16`"
        ]
    return []


def blob_key(text: str) -> bytes:
    """Of its base64. Raises: ValueError"""
    key = base64.b64decode(text.strip(), validate=True)
    if len(key) != 32:
        raise ValueError("a key has 32 bytes")
    return key


def _are_keys(settings: "Settings") -> bool:
    try:
        return bool(settings.sealing_keys)
    except ValueError:
        return False


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _are_prices(text: str) -> bool:
    """Two numbers for each model."""
    if not _is_object(text):
        return False
    pairs = json.loads(text).values()
    return all(isinstance(pair, list) and len(pair) == 2 and all(map(_is_price, pair)) for pair in pairs)


def _is_price(value: Any) -> bool:
    return type(value) in (int, float) and bool(0 <= value < 1e9)
