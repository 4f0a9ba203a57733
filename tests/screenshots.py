"""The pictures of README: the page and Flower of a real system that was asked about drawn pictures.

    python -m tests.screenshots                  # writes them where README looks for them
    python -m tests.screenshots --views FOLDER   # and every view in every language, at both sizes, light and dark

The second is for looking at; tests/api/test_browser*.py hold the page to what it should do.
"""

import argparse
import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

from api.client import Client
from deploy.demo import QUESTION
from deploy.drawn import jpeg
from deploy.run import running
from shared.catalog import LANGUAGES
from shared.settings import ROOT, Settings
from tests.api.browsing import SIZES
from tests.servers import free_port, needs

PAGE, FLOWER = ROOT / "api/web/screenshot.jpg", ROOT / "deploy/monitoring/flower.jpg"
DESK: Any = {"width": 1180, "height": 980}
LOW: Any = {"width": 1180, "height": 720}
QUALITY = 70  # of the JPEGs, which stay below 150 kB
PATIENCE_MS = 120_000
QUESTIONS = {"en": QUESTION, "ko": "이 점이 위험한가요?", "fr": "Ce grain de beauté est-il dangereux ?"}


@dataclass(frozen=True)
class Asked:
    """Jobs that have ended: two of each language, the second a rerun; and a batch."""

    jobs: dict[str, tuple[str, str]]
    batch: str


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.screenshots", description=__doc__.splitlines()[0])
    parser.add_argument("--views", type=Path, help="a folder for pictures of every view")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="medq-") as folder, system(Path(folder)) as (url, flower_url):
        asked = ask(url, Path(folder))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=needs("chromium", "chromium"), args=["--no-sandbox"]
            )
            with opened(browser, "en", viewport=DESK) as page:
                page.goto(f"{url}/#/jobs/{asked.jobs['en'][0]}")
                settled(page)
                page.screenshot(path=PAGE, type="jpeg", quality=QUALITY)
                page.set_viewport_size(LOW)
                page.goto(f"{flower_url}/tasks")
                page.locator("table tbody tr").first.wait_for()
                page.screenshot(path=FLOWER, type="jpeg", quality=QUALITY)
            if options.views:
                every_view(browser, url, asked, options.views)
            browser.close()


@contextmanager
def system(folder: Path) -> Iterator[tuple[str, str]]:
    settings = replace(Settings(), data_dir=str(folder / "var"), port=free_port(), flower_port=free_port())
    with running(settings) as started:
        yield started.url, started.flower_url


def ask(url: str, folder: Path) -> Asked:
    with Client(url) as client:
        firsts = {
            lang: client.submit(
                jpeg(), filename="drawn.jpg", question=QUESTIONS[lang], lang=lang, age=45, sex="female",
                site="back", explain="low",
            )
            for lang in LANGUAGES
        }  # fmt: skip
        for job in firsts.values():
            client.wait(job.id)
        again = {lang: client.rerun(job.id) for lang, job in firsts.items()}
        (study := folder / "study").mkdir()
        for number in range(4):
            (study / f"{number}.jpg").write_bytes(jpeg(number))
        (study / "broken.jpg").write_bytes(b"no picture")
        batch = client.batch(study, question=QUESTION)
        for job in again.values():
            client.wait(job.id)
        client.wait_batch(batch.id)
        for lang in LANGUAGES:
            client.wait(client.ask(firsts[lang].id, QUESTIONS[lang], lang=lang).id)
    return Asked({lang: (firsts[lang].id, again[lang].id) for lang in LANGUAGES}, batch.id)


@contextmanager
def opened(browser: Browser, lang: str, **more: Any) -> Iterator[Page]:
    context = browser.new_context(locale=lang, **more)
    context.set_default_timeout(PATIENCE_MS)
    yield context.new_page()
    context.close()


def settled(page: Page) -> None:
    """The view stands, and its pictures are there."""
    page.wait_for_selector("main:not([aria-busy]) .view")
    for image in page.locator("img").all():
        expect(image).to_have_js_property("complete", True, timeout=PATIENCE_MS)


def every_view(browser: Browser, url: str, asked: Asked, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for lang, (size, (width, height)) in itertools.product(LANGUAGES, SIZES.items()):
        scheme: Any = "dark" if (lang == "fr") == (size == "phone") else "light"
        first, second = asked.jobs[lang]
        views = {
            "ask": "", "job": f"jobs/{first}", "compare": f"compare/{first}/{second}", "history": "history",
            "batches": "batches", "batch": f"batches/{asked.batch}", "queue": "review", "agreement": "agreement",
        }  # fmt: skip
        viewport: Any = {"width": width, "height": height}
        with opened(browser, lang, viewport=viewport, color_scheme=scheme) as page:
            for name, address in views.items():
                page.goto(f"{url}/#/{address}")
                settled(page)
                page.screenshot(path=folder / f"{name}-{lang}-{size}-{scheme}.png", full_page=True)


if __name__ == "__main__":
    main()
