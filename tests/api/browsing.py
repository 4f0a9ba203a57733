"""A real Chromium on the real API: what the browser tests share, and how they look at a page."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from api.page import CATALOGUE
from tests.api.live import Live

SIZES = {"desk": (1280, 900), "phone": (390, 844)}
PATIENCE_MS = 60_000  # two busy cores make a browser crawl; a page that works is never waited for so long
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


@dataclass
class Visitor:
    """One person with a browser, a language and a size; `trouble` is what the browser complained of."""

    page: Page
    live: Live
    lang: str
    size: str
    shots: Path
    trouble: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def says(self, key: str, **values: object) -> str:
        return re.sub(r"\{(\w+)\}", lambda match: str(values[match[1]]), CATALOGUE[key][self.lang])

    def open(self, address: str = "") -> None:
        self.page.goto(f"{self.live.url}/{address}")
        # Where only the part after # changes, the view before this one stands for a while.
        self.page.wait_for_selector(f'main[data-at="{address}"]:not([aria-busy]) .view')

    def sign_in(self, key: str) -> None:
        """Where a server asks for a key, as somebody who has a right one."""
        self.page.goto(self.live.url)
        self.page.locator("#field-key").fill(key)
        self.button("session.enter").click()
        self.sees(self.says("ask.drop"))

    def go(self, key: str) -> None:
        self.page.get_by_role("link", name=self.says(key), exact=True).click()

    def button(self, key: str) -> Locator:
        return self.page.get_by_role("button", name=self.says(key), exact=True)

    def text(self, text: str) -> Locator:
        return self.page.get_by_text(text, exact=False).first

    def sees(self, text: str) -> None:
        expect(self.text(text)).to_be_visible()

    def choose(self, *files: Path) -> None:
        self.page.set_input_files("#files", list(files))

    def send(self, *files: Path, **fields: str) -> str:
        """Submit from the first view; answers with the id in the new address."""
        self.open()
        self.choose(*files)
        for name, value in fields.items():
            self.page.fill(f"#field-{name}", value)
        self.page.click("form button.main")
        self.page.wait_for_url(re.compile(r"#/(jobs|batches)/"))
        self.page.wait_for_selector("main:not([aria-busy]) .status")
        return self.page.url.rpartition("/")[2]

    def shot(self, name: str) -> None:
        self.page.evaluate("scrollTo(0, 0)")
        self.page.screenshot(path=self.shots / f"{self.lang}-{self.size}-{name}.png", full_page=True)

    def accessible(self) -> None:
        """axe finds nothing against WCAG 2.2 AA, and the page does not scroll sideways."""
        found = Axe().run(self.page, options={"runOnly": {"type": "tag", "values": WCAG}})
        assert found.violations_count == 0, found.generate_report()
        assert self.page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    def check(self) -> None:
        assert self.trouble == []
        assert self.hosts <= {f"127.0.0.1:{self.live.port}"}


@contextmanager
def visiting(
    browser: Browser, live: Live, shots: Path, lang: str = "en", size: str = "desk", scheme: Any = "light"
) -> Iterator[Visitor]:
    width, height = SIZES[size]
    phone = size == "phone"
    context = browser.new_context(
        viewport={"width": width, "height": height}, locale=lang, color_scheme=scheme, has_touch=phone, is_mobile=phone
    )  # fmt: skip
    context.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    page = context.new_page()
    visitor = Visitor(page, live, lang, size, shots)
    page.on("console", lambda message: _complaint(visitor, message))
    page.on("pageerror", lambda error: visitor.trouble.append(str(error)))
    page.on("request", lambda request: _host(visitor, request.url))
    try:
        yield visitor
    finally:
        context.close()


def _complaint(visitor: Visitor, message: Any) -> None:
    # A refusal or a server that is away is logged by the browser itself; tests look at what the page says of it.
    if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
        visitor.trouble.append(message.text)


def _host(visitor: Visitor, url: str) -> None:
    if match := re.match(r"(?:https?|wss?)://([^/]+)/", url):
        visitor.hosts.add(match[1])
