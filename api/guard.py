"""What every request passes on its way in and out: who asks, under which id, and what browsers may do."""

import re
import time
from urllib.parse import urlsplit

from flask import Flask, Response, g, request
from structlog.contextvars import bind_contextvars, clear_contextvars

from api.auth import authenticate
from api.services import services
from shared.errors import Forbidden
from shared.ids import new_id

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
READING = frozenset({"GET", "HEAD", "OPTIONS"})
WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
NOTHING = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
# Swagger UI sets styles by script, which needs no permission, and draws its icons from data: URLs.
DOCS = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


def install(app: Flask) -> None:
    app.before_request(_enter)
    app.after_request(_leave)


def _enter() -> None:
    g.started = time.perf_counter()
    asked = request.headers.get("X-Request-Id", "")
    g.request_id = asked if REQUEST_ID.fullmatch(asked) else new_id()
    clear_contextvars()
    bind_contextvars(request_id=g.request_id)
    _check_host()
    _check_origin()
    authenticate()


def _check_host() -> None:
    """A page of somebody else's can point a name of its own at this address (DNS rebinding)."""
    if host_name(request.headers.get("Host", "")) not in services().settings.allowed_hosts:
        raise Forbidden("This server does not answer under that name; MEDQ_HOSTS lists those it does.")


def _check_origin() -> None:
    """A page of somebody else's may not ask here, even in the browser of a person who may."""
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc.lower() != request.headers.get("Host", "").lower():
        raise Forbidden("Pages of another origin may not ask here.")


def host_name(host: str) -> str:
    """Without the port; IPv6 addresses keep their brackets."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(:[0-9]+)?", host)
    return match[1].lower() if match else ""


def _leave(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Content-Security-Policy", NOTHING)
    response.headers["X-Request-Id"] = g.request_id
    # Neither label may take a value of the client's choosing: each new one is kept for ever.
    method = request.method if request.method in READING | WRITING else "other"
    route = request.url_rule.rule if request.url_rule else "none"
    services().metrics.answered(method, route, response.status_code, time.perf_counter() - g.started)
    return response
