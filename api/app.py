"""Builds the API: its rooms, its resources, and what every request passes."""

from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI

from api import (
    about,
    agreement,
    audited,
    batches,
    compat,
    deliveries,
    docs,
    events,
    guard,
    health,
    jobs,
    limits,
    messages,
    operate,
    page,
    pipelines,
    problems,
    report,
    reviews,
    sessions,
    uploads,
    usage,
)
from api.about import VERSION
from api.multipart import OVERHEAD_BYTES
from api.services import EXTENSION, Services
from shared.schemas import Problem
from shared.settings import Settings

ABOUT = (
    "A medical image and a question go in; findings, pictures and an answer in words come out. "
    "Not a medical device."
)


def create_app(settings: Settings, rooms: Services | None = None) -> OpenAPI:
    """The API on `rooms`, or on rooms opened from the settings; whoever ends the app closes them."""
    app = OpenAPI(
        "api",
        info=Info(title="MedQ", version=VERSION, description=ABOUT),
        validation_error_status=400,
        validation_error_model=Problem,
        doc_ui=False,
        template_folder="web",
        static_folder=None,
    )
    app.extensions[EXTENSION] = rooms or Services.open(settings)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_upload_bytes + OVERHEAD_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]
    guard.install(app)
    problems.install(app)
    limits.install(app, settings)
    audited.install(app, settings)
    resources = (
        jobs, deliveries, events, messages, reviews, agreement, report, batches, uploads, pipelines, sessions, about, health, operate, usage,
    )  # fmt: skip
    for resource in resources:
        app.register_api(resource.api)
    app.register_blueprint(docs.pages)
    app.register_blueprint(page.pages)
    if settings.compat == "on":
        app.register_blueprint(compat.pages)
    return app
