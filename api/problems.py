"""Every refusal and failure as RFC 9457 problem details; strangers get fixed sentences, the log the rest."""

import json
from typing import Any

import structlog
from flask import Flask, Response, render_template, request
from flask_openapi3.types import ResponseDict
from sqlalchemy.exc import SQLAlchemyError, StatementError
from werkzeug.exceptions import HTTPException

from shared.errors import (
    FieldProblem,
    MethodNotAllowed,
    NotFound,
    RequestError,
    ServiceError,
    ServiceUnavailable,
    TooManyRequests,
    TransientError,
    Unauthorized,
    UploadTooLarge,
    by_slug,
)
from shared.schemas import Problem

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5

# For the documentation of every resource.
RESPONSES: ResponseDict = {
    status: {
        "description": "A refusal or failure, as RFC 9457 problem details",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status in ("400", "default")
}

# What werkzeug raises by itself; any other status keeps werkzeug's name and has no help page.
BY_STATUS: dict[int, type[RequestError]] = {
    cls.status: cls
    for cls in (RequestError, NotFound, MethodNotAllowed, UploadTooLarge, TooManyRequests, ServiceUnavailable)
}

log = structlog.get_logger(__name__)


def problem_type(slug: str) -> str:
    return f"/problems/{slug}"


def describe(cls: type[ServiceError]) -> str:
    """The class's docstring on one line: the sentence a stranger gets."""
    return " ".join((cls.__doc__ or "").split())


def install(app: Flask) -> None:
    app.register_error_handler(RequestError, refused)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(TransientError, _unavailable)
    app.register_error_handler(SQLAlchemyError, _unavailable)
    app.register_error_handler(Exception, _unexpected)
    app.add_url_rule("/problems/<slug>", view_func=help_page)


def help_page(slug: str) -> str:
    """What a problem means, for people who follow its `type`."""
    cls = by_slug(slug)
    if cls is None:
        raise NotFound()
    return render_template("problem.html", title=cls.title, status=cls.status, text=describe(cls))


def body(
    cls: type[ServiceError],
    detail: str,
    *,
    instance: str | None = None,
    errors: tuple[FieldProblem, ...] = (),
) -> Problem:
    fields = [{"detail": error.detail, "pointer": error.pointer} for error in errors]
    return Problem(
        type=problem_type(cls.slug),
        title=cls.title,
        status=cls.status,
        detail=detail,
        instance=instance,
        errors=fields or None,
    )


def refused(error: RequestError) -> Response:
    """What the client is told."""
    problem = body(type(error), error.detail, instance=request.path, errors=error.errors)
    headers = _retry_after(error.retry_after_s)
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = 'Bearer realm="MedQ"'
    return _answer(problem, headers)


def _http(error: HTTPException) -> Response:
    """Start from werkzeug's own response, which carries Allow and Retry-After."""
    original = error.get_response()
    headers = {name: value for name, value in original.headers if name in ("Allow", "Retry-After")}
    cls = BY_STATUS.get(original.status_code)
    if cls:
        return _answer(body(cls, describe(cls), instance=request.path), headers)
    problem = Problem(
        type="about:blank",
        title=error.name,
        status=original.status_code,
        detail=error.name + ".",
        instance=request.path,
    )
    return _answer(problem, headers)


def _unavailable(error: Exception) -> Response:
    """The database or the blob store did not answer."""
    if isinstance(error, StatementError):
        error.hide_parameters = True  # they hold what patients asked
    log.exception("unavailable", path=request.path, error=type(error).__name__)
    problem = body(ServiceUnavailable, describe(ServiceUnavailable), instance=request.path)
    return _answer(problem, _retry_after(RETRY_AFTER_S))


def _unexpected(error: Exception) -> Response:
    log.exception("unexpected", path=request.path, error=type(error).__name__)
    return _answer(body(ServiceError, describe(ServiceError), instance=request.path), {})


def _retry_after(seconds: int | None) -> dict[str, str]:
    return {} if seconds is None else {"Retry-After": str(seconds)}


def _answer(problem: Problem, headers: dict[str, Any]) -> Response:
    # ensure_ascii: whatever a client sent, half a surrogate pair included, the answer can be encoded.
    text = json.dumps(problem.model_dump(exclude_none=True))
    return Response(text, problem.status, headers, mimetype=MEDIA_TYPE)
