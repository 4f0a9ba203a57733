"""Signing in: turns a key into a cookie, since pictures and event streams in a page cannot send a header."""

from datetime import datetime, timedelta
from typing import Any

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import Field

from api import auth, problems
from api.checked import checked
from api.guard import host_name
from api.services import services
from api.views import EPOCH
from shared import keys
from shared.errors import Unauthorized
from shared.schemas import Body, Request

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})

api = APIBlueprint(
    "sessions", __name__, url_prefix="/v1/session", abp_tags=[Tag(name="session")],
    abp_responses=problems.RESPONSES,
)  # fmt: skip


class SignIn(Request):
    key: str = Field(max_length=200, description="mq_...")


class SessionInfo(Body):
    """Who is signed in; in open mode nobody, who may do everything."""

    auth: str
    owner: str
    scopes: list[str]
    expires_at: datetime | None


@api.post("", responses={"200": SessionInfo})
@checked
def sign_in(body: SignIn) -> Response:
    """Turn a key into a cookie"""
    room = services()
    if room.settings.auth == "open":
        return _json(auth.ANYBODY)
    key = keys.find(room.db, body.key) if body.key.startswith(keys.KEY_PREFIX) else None
    if key is None:
        raise Unauthorized("This server does not know the key, or it was revoked.")
    token = keys.open_session(room.db, key, room.settings.session_s)
    signed_in = room.keys.find(token)
    if signed_in is None:
        raise Unauthorized()
    response = _json(auth.Caller(key.owner, key.scopes, signed_in))
    response.set_cookie(auth.COOKIE, token, max_age=int(room.settings.session_s), **_attributes())
    return response


@api.get("", responses={"200": SessionInfo})
@checked
def look() -> Response:
    """Ask who is signed in"""
    return _json(auth.caller())


@api.delete("", responses={"204": None})
@checked
def sign_out() -> Response:
    """Forget the cookie's session"""
    room, token = services(), request.cookies.get(auth.COOKIE, "")
    if token.startswith(keys.SESSION_PREFIX):
        keys.close_session(room.db, token)
        room.keys.forget(token)
    response = Response(status=204)
    response.delete_cookie(auth.COOKIE, **_attributes())
    return response


def _attributes() -> dict[str, Any]:
    """Beyond loopback only over TLS: the cookie is as good as the key."""
    here = host_name(request.headers.get("Host", "")) in LOOPBACK
    return {"httponly": True, "samesite": "Strict", "secure": not here, "path": "/"}


def _json(who: auth.Caller) -> Response:
    ends = who.key.expires_at if who.key else None
    info = SessionInfo(
        auth="keys" if who.key else "open",
        owner=who.owner,
        scopes=[scope for scope in keys.SCOPES if scope in who.scopes],
        expires_at=None if ends is None else EPOCH + timedelta(microseconds=ends),
    )
    return Response(info.model_dump_json(), mimetype="application/json")
