"""Writes the audit log of what was read and done, before anybody sees the answer.

A submit and an erasure are written in their own transaction; everything else is noted here by what its view looked up,
so that a new route cannot be forgotten.
"""

import time

import structlog
from flask import Flask, Response, g, request
from sqlalchemy.exc import SQLAlchemyError

from api import auth, problems
from api.services import services
from shared import audit
from shared.errors import ServiceUnavailable
from shared.settings import Settings

BY_THEMSELVES = frozenset(
    {
        "jobs.submit", "messages.send", "batches.submit", "jobs.erase",
        "compat.predict", "compat.predict_all", "compat.upload",
    }
)  # fmt: skip
# What a write counts as, unless it is `change`.
ACTIONS = {"reviews.review": "review"}

log = structlog.get_logger(__name__)


def install(app: Flask, settings: Settings) -> None:
    if settings.auth == "keys":  # in open mode nobody is known who could be named
        app.after_request(_note)


def _note(response: Response) -> Response:
    """What cannot be written down is not shown."""
    actor, touched = auth.actor(), g.get("touched")
    if actor is None or not touched or response.status_code >= 400 or request.endpoint in BY_THEMSELVES:
        return response
    room = services()
    try:
        if request.method in auth.READING:
            room.reads.note(actor, touched, time.time_ns() // 1000)
        else:
            action = ACTIONS.get(request.endpoint or "", "change")
            room.db.write(lambda session: audit.add(session, actor, action, sorted(touched)))
    except SQLAlchemyError:
        log.exception("audit_failed", path=request.path)
        response.close()
        return problems.refused(ServiceUnavailable(retry_after_s=problems.RETRY_AFTER_S))
    return response
