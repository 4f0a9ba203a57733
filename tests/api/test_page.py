"""The page's words and policy; what it does in a browser is tested in test_browser*.py."""

import json
import re
from typing import Any

import pytest
from flask.testing import FlaskClient

from api.page import CATALOGUE, FILES, FIRST, SERVED
from shared import errors
from shared.batch_schemas import BatchStatus
from shared.catalog import LANGUAGES, PIPELINES, Urgency
from shared.schemas import Explain, JobStatus, Sex, StageName
from shared.schemas import Warning as Warned
from tests.api.driving import ONE_DATABASE
from workers.checks import CHECKS

SOURCES = {path.name: path.read_text() for path in FILES.glob("*.js")}
# What the page looks up by a name that the server sends.
SENT = {
    *(f"status.{one}" for one in JobStatus.__args__),
    *(f"batch.{one}" for one in BatchStatus.__args__),
    *(f"urgency.{one}" for one in Urgency.__args__),
    *(f"sex.{one}" for one in Sex.__args__),
    *(f"lang.{one}" for one in LANGUAGES),
    *(f"site.{one}" for pipeline in PIPELINES.values() for one in pipeline.sites),
    *(f"{kind}.{cls}" for kind in ("problem", "remedy") for cls in ("other", "offline", "wrong-key")),
    *(f"warning.{one}" for one in Warned.model_fields["code"].annotation.__args__),  # type: ignore[union-attr]
    *(name for one in StageName.__args__ for name in (f"stage.{one}", f"stage.{one}.noun")),
    *(f"explain.{one}" for one in Explain.__args__),
    *(f"check.{one}" for one in ("schema", *CHECKS)),
    "layer.overlay", "layer.explanation", "layer.activation", "layer.none",
    *(f"review.{one}" for one in ("agree", "disagree", "said.agree", "said.disagree")),
}  # fmt: skip


def placeholders(text: str) -> list[str]:
    return sorted(re.findall(r"\{(\w+)\}", text))


@pytest.mark.parametrize("key", sorted(CATALOGUE))
def test_every_text_is_there_in_every_language_with_the_same_places(key: str) -> None:
    texts = CATALOGUE[key]
    assert tuple(texts) == LANGUAGES
    assert all(text.strip() for text in texts.values())
    assert len({tuple(placeholders(text)) for text in texts.values()}) == 1


def test_every_text_that_the_page_names_is_in_the_catalogue_and_none_is_left_over() -> None:
    template = (FILES.parent / "page.html").read_text()
    named = set(re.findall(r"t\['([^']+)'\]", template))
    everything = "\n".join(SOURCES.values())
    named |= {
        key for key in re.findall(r"\"([a-z_]+(?:\.[a-z_-]+)+)\"", everything) if not key.endswith(".js")
    }
    named -= {"answer.delta", "answer.written", "pictures.tar"}
    assert (named | SENT) - set(CATALOGUE) == set()
    problems = {f"{kind}.{cls.slug}" for kind in ("problem", "remedy") for cls in errors.error_classes()}
    assert set(CATALOGUE) - named - SENT - problems == set()


def test_a_problem_that_is_named_comes_with_a_remedy() -> None:
    slugs = [
        {key.partition(".")[2] for key in CATALOGUE if key.startswith(kind)}
        for kind in ("problem.", "remedy.")
    ]
    assert slugs[0] == slugs[1]


@ONE_DATABASE
@pytest.mark.parametrize(
    ("query", "cookie", "header", "lang"),
    [
        ("", "", "", "en"),
        ("", "", "ko-KR,ko;q=0.9,en;q=0.8", "ko"),
        ("", "", "de, fr;q=0.5", "fr"),
        ("", "fr", "ko", "fr"),
        ("?lang=en", "fr", "ko", "en"),
        ("?lang=xx", "yy", "zz", "en"),
        ('?lang="><script>', "", "", "en"),
    ],
)
def test_the_page_speaks_the_readers_language(
    client: FlaskClient, query: str, cookie: str, header: str, lang: str
) -> None:
    if cookie:
        client.set_cookie("medq_lang", cookie)
    response = client.get(f"/{query}", headers={"Accept-Language": header})
    assert f'<html lang="{lang}">' in response.text
    assert ("Set-Cookie" in response.headers) == (query == f"?lang={lang}")
    words = re.search(r'<script type="application/json" id="words">(.*?)</script>', response.text, re.DOTALL)
    assert words
    assert json.loads(words[1]) == {key: texts[lang] for key, texts in CATALOGUE.items()}


@ONE_DATABASE
def test_nothing_of_the_page_is_inline_or_from_elsewhere(client: FlaskClient) -> None:
    response = client.get("/")
    policy = response.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert not re.search(
        r"<script(?! type=\"(application/json|module\" src=))|<style|\son\w+=|style=", response.text
    )
    for source in re.findall(r'(?:src|href)="([^"]+)"', response.text):
        assert source.startswith(("/page/", "/docs", "#"))
        if source.startswith("/page/"):
            assert client.get(source, buffered=True).status_code == 200
    for text in SOURCES.values():
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|https?://(?!\?)", text
        )


def test_the_first_view_preloads_just_what_it_imports() -> None:
    reached, waiting = set(), ["main.js"]
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting += [
            one
            for one in re.findall(r'^import .* from "\./([^"]+)"', SOURCES[name], re.MULTILINE)
            if one not in reached
        ]
    assert reached == set(FIRST)


@ONE_DATABASE
@pytest.mark.parametrize("name", SERVED)
def test_a_file_is_sent_again_only_when_it_changed(client: FlaskClient, name: str) -> None:
    first = client.get(f"/page/{name}", buffered=True)
    assert first.headers["X-Content-Type-Options"] == "nosniff"
    again = client.get(f"/page/{name}", headers={"If-None-Match": first.headers["ETag"]}, buffered=True)
    assert (again.status_code, again.data) == (304, b"")


@ONE_DATABASE
@pytest.mark.parametrize("name", ["..%2fpage.py", "strings.json", "page.html", "%2e%2e", ".", "x.js"])
def test_other_files_are_not_served(client: FlaskClient, name: str) -> None:
    response: Any = client.get(f"/page/{name}")
    assert response.status_code in (404, 308)
