"""The page at `/`: one template in the reader's language, and the files that it loads."""

import json
from pathlib import Path

from flask import Blueprint, Response, render_template, request, send_from_directory

from shared.catalog import LANGUAGES, Lang
from shared.errors import NotFound

WEB = Path(__file__).parent / "web"
FILES = WEB / "page"
NAMES = {"en": "English", "ko": "한국어", "fr": "Français"}
REMEMBERED_S = 365 * 24 * 3600
# No inline script, no inline style, no outside address; blob: is the preview of a picture before it is sent.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

pages = Blueprint("page", __name__)


def words(lang: Lang) -> dict[str, str]:
    """Every text of the page in one language; the catalogue holds them side by side."""
    return {key: texts[lang] for key, texts in CATALOGUE.items()}


CATALOGUE: dict[str, dict[str, str]] = json.loads((WEB / "strings.json").read_text())
WORDS = {lang: words(lang) for lang in LANGUAGES}
SERVED = tuple(sorted(path.name for path in FILES.iterdir() if path.suffix in (".js", ".css", ".svg")))
# What the first view imports, directly or not; the other views are fetched when somebody goes there.
FIRST = tuple(
    f"{name}.js" for name in ("main", "ask", "chosen", "privacy", "tar", "dom", "http", "session", "words")
)


@pages.get("/")
def index() -> Response:
    lang = _language()
    text = render_template(
        "page.html", lang=lang, t=WORDS[lang], languages=LANGUAGES, names=NAMES, modules=FIRST
    )
    response = Response(text, headers={"Content-Security-Policy": POLICY, "Vary": "Accept-Language, Cookie"})
    if request.args.get("lang") == lang:
        response.set_cookie("medq_lang", lang, max_age=REMEMBERED_S, samesite="Strict", httponly=True)
    return response


@pages.get("/page/<name>")
def asset(name: str) -> Response:
    if name not in SERVED:
        raise NotFound()
    response = send_from_directory(FILES, name)
    response.headers["Cache-Control"] = "no-cache"  # asked for each time, and sent again only when changed
    return response


def _language() -> Lang:
    """What the address says, what was chosen before, or what the browser prefers."""
    preferred = request.accept_languages.best_match(LANGUAGES)
    for wanted in (request.args.get("lang"), request.cookies.get("medq_lang"), preferred):
        for lang in LANGUAGES:
            if wanted == lang:
                return lang
    return LANGUAGES[0]
