"""The readable page about this API, made of Swagger UI's files as its package carries them."""

import json
from pathlib import Path

import flask_openapi3_swagger  # type: ignore[import-untyped]
from flask import Blueprint, Response, current_app, render_template, send_from_directory
from flask_openapi3.openapi import OpenAPI

from api.document import guarded
from api.guard import DOCS
from api.services import services
from shared.errors import NotFound

SWAGGER = Path(flask_openapi3_swagger.__file__).parent / "templates" / "swagger"
OWN = Path(__file__).parent / "web"
FILES = {
    "swagger-ui.css": SWAGGER / "css",
    "swagger-ui-bundle.js": SWAGGER / "js",
    "docs.js": OWN,
}

pages = Blueprint("docs", __name__)


@pages.get("/docs")
def docs() -> Response:
    return Response(render_template("docs.html"), headers={"Content-Security-Policy": DOCS})


@pages.get("/docs/<name>")
def asset(name: str) -> Response:
    if name not in FILES:
        raise NotFound()
    return send_from_directory(FILES[name], name, max_age=3600)


@pages.get("/openapi.json")
def openapi() -> Response:
    app = current_app
    assert isinstance(app, OpenAPI)
    document = guarded(app, services().settings.auth)
    return Response(json.dumps(document, ensure_ascii=False), mimetype="application/json")
