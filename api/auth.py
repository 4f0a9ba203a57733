"""Who asks: a key, a browser that was signed in with one, or, in open mode, whoever sits at this machine."""

from dataclasses import dataclass

from flask import g, has_request_context, request

from api.services import services
from shared.audit import Actor
from shared.errors import Forbidden, Unauthorized
from shared.keys import KEY_PREFIX, SCOPES, SESSION_PREFIX, Key

COOKIE = "medq_session"
READING = frozenset({"GET", "HEAD"})

# Operations that ask for no key: they tell nothing of anybody's.
PUBLIC = frozenset(
    {
        "health.healthz", "health.readyz", "help_page",
        "docs.docs", "docs.asset", "docs.openapi", "page.index", "page.asset",
        "about.about", "pipelines.list_pipelines", "pipelines.get_pipeline", "pipelines.get_card",
        "sessions.sign_in", "sessions.sign_out",
    }
)  # fmt: skip
# The scope that an operation needs, unless it is `read` for one that reads, and `submit` for one that writes.
NEEDED = {
    "health.metrics": "admin",  # counts are of everybody's jobs
    "operate.list_pauses": "admin",
    "operate.pause": "admin",
    "operate.resume": "admin",
    "operate.requeue": "admin",
    "sessions.look": None,  # any key's
    "reviews.review": "review",
}


@dataclass(frozen=True)
class Caller:
    """Whoever makes this request; `key` is None in open mode."""

    owner: str
    scopes: frozenset[str]
    key: Key | None
    by_cookie: bool = False


ANYBODY = Caller("", frozenset(SCOPES), None)


def authenticate() -> None:
    """Before the view: find out who asks, and whether he may.

    Raises: Unauthorized, Forbidden
    """
    endpoint = request.endpoint
    if endpoint is None or endpoint in PUBLIC or request.method == "OPTIONS":
        return
    g.caller, g.touched = recognised(), set()
    if g.caller.by_cookie and request.method not in READING:
        _check_own_page()
    scope = needed(endpoint, request.method)
    if scope is not None and scope not in g.caller.scopes:
        raise Forbidden(f"This key lacks the scope {scope}.")


def caller() -> Caller:
    """Whoever makes this request, which asks for a key."""
    found: Caller = g.caller
    return found


def known_key() -> Key | None:
    """The key of this request, if it needed and showed one."""
    found: Caller | None = g.get("caller")
    return found.key if found else None


def owner() -> str:
    return caller().owner


def actor() -> Actor | None:
    """Of the audit log; None in open mode, where nobody is known."""
    key = known_key()
    return Actor(key.id, key.owner) if key else None


def touched(*ids: str) -> str:
    """Note for the audit log what this request is about; the last id again.

    What runs on after the request, such as a stream, was noted when it began.
    """
    if has_request_context() and (found := g.get("touched")) is not None:
        found.update(ids)
    return ids[-1] if ids else ""


def needed(endpoint: str, method: str) -> str | None:
    return NEEDED.get(endpoint, "read" if method in READING else "submit")


def recognised() -> Caller:
    """Raises: Unauthorized"""
    room = services()
    if room.settings.auth == "open":
        return ANYBODY
    token, by_cookie = _shown()
    key = room.keys.find(token)
    if key is None:
        raise Unauthorized()
    return Caller(key.owner, key.scopes, key, by_cookie)


def _shown() -> tuple[str, bool]:
    """The token, and whether it came in the cookie; a header wins, since nobody sends it by accident."""
    header = request.headers.get("Authorization")
    if header is not None:
        kind, _, token = header.partition(" ")
        if kind.lower() == "bearer" and token.startswith(KEY_PREFIX):
            return token.strip(" "), False
        raise Unauthorized()
    token = request.cookies.get(COOKIE, "")
    if not token.startswith(SESSION_PREFIX):
        raise Unauthorized()
    return token, True


def _check_own_page() -> None:
    """A browser says where a write comes from; that it is another page of ours is checked for every request."""
    if request.headers.get("Origin") is None and request.headers.get("Sec-Fetch-Site") != "same-origin":
        raise Forbidden("A write with the session cookie must come from a page of this server.")
