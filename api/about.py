"""What this server is: its version, its limits, and who else would see a question before it is asked."""

from urllib.parse import urlsplit

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api import problems
from api.checked import checked
from api.services import services
from shared.catalog import LANGUAGES
from shared.schemas import QUESTION_LIMIT, About, AboutLimits, AboutModel
from shared.settings import Settings

VERSION = "0.1.0"

api = APIBlueprint("about", __name__, abp_tags=[Tag(name="health")], abp_responses=problems.RESPONSES)


@api.get("/v1/about", responses={"200": About})
@checked
def about() -> Response:
    """Look at what this server is, and which language model sees what is asked"""
    settings = services().settings
    found = About(
        version=VERSION,
        auth=settings.auth,
        languages=list(LANGUAGES),
        language_models=_language_models(settings),
        limits=AboutLimits(
            image_bytes=settings.max_upload_bytes,
            image_pixels=settings.max_pixels,
            archive_bytes=settings.max_archive_bytes,
            archive_entries=settings.max_entries,
            question_characters=QUESTION_LIMIT,
        ),
    )
    return Response(found.model_dump_json(), mimetype="application/json")


def _language_models(settings: Settings) -> list[AboutModel]:
    """With the second server, which is asked when the first is away."""
    if settings.answers == "reference":
        return []
    named = [
        (settings.openai_model, settings.openai_base_url),
        (settings.fallback_model, settings.fallback_base_url),
    ]
    # The address without its path and query, which may hold a key.
    return [AboutModel(name=name, host=urlsplit(url).hostname or "") for name, url in named if url]
