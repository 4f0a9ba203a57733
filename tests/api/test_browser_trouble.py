"""What the page says and does when something goes wrong, and when somebody means harm."""

import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from api.client import Client
from deploy.drawn import jpeg
from tests.api.browsing import PLACES, Visitor
from tests.api.live import ANSWER, Live

Visit = Callable[..., Visitor]

everywhere = pytest.mark.parametrize(("lang", "size"), PLACES)
HURT = "<img src=x onerror=window.hurt=1><script>window.hurt=1</script>"


@pytest.fixture(scope="module")
def mole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "mole.jpg"
    path.write_bytes(jpeg())
    return path


@everywhere
def test_a_job_that_fails_says_what_to_do(
    visit: Visit, page_server: Live, mole: Path, lang: str, size: str
) -> None:
    visitor = visit(lang, size)
    job_id = visitor.send(mole)
    page_server.error = True
    try:
        page_server.see(job_id)
    finally:
        page_server.error = False
    alert = visitor.page.get_by_role("alert")
    expect(alert).to_contain_text(visitor.says("problem.image-failed"))
    expect(alert).to_contain_text(visitor.says("remedy.image-failed"))
    expect(visitor.button("job.again")).to_be_visible()
    visitor.accessible()
    visitor.shot("failed")


@everywhere
def test_while_a_model_writes_the_page_says_how_much_and_nothing_of_it(
    visit: Visit, page_server: Live, mole: Path, lang: str, size: str
) -> None:
    visitor = visit(lang, size)
    job_id = visitor.send(mole)
    page_server.see(job_id)
    claim = page_server.claim(job_id, "answer")
    page_server.rooms.hints.keep_written(job_id, claim.jobs[0].attempt, 620)
    visitor.sees(visitor.says("job.writing", n=620))
    visitor.accessible()
    page_server.finish(job_id, claim)
    expect(visitor.text(visitor.says("job.writing", n=620))).to_have_count(0)


@everywhere
def test_a_slow_job_says_where_it_stands_and_can_be_canceled(
    visit: Visit, page_server: Live, mole: Path, lang: str, size: str
) -> None:
    visitor = visit(lang, size)
    vision = visitor.says("stage.vision.noun")
    with Client(page_server.url) as client:
        first = client.submit(mole)
        place = client.get(visitor.send(mole)).position
        assert isinstance(place, int)
        visitor.sees(visitor.says("job.position", n=place, stage=vision))
        client.cancel(first.id)
    visitor.sees(visitor.says("job.position", n=place - 1, stage=vision))
    visitor.button("job.cancel").click()
    expect(visitor.page.locator(".status.canceled")).to_have_text(visitor.says("status.canceled"))


def test_the_page_outlives_a_server_that_restarts(
    visit: Visit, second_server: Callable[..., Live], mole: Path
) -> None:
    live = second_server()
    visitor = visit(live=live)
    job_id = visitor.send(mole)
    live.stop()
    lost = visitor.page.get_by_text(visitor.says("job.lost"))
    expect(lost).to_be_visible()
    visitor.shot("lost")
    live.start()
    live.see(job_id)
    expect(lost).to_be_hidden()
    visitor.sees("Melanoma")
    live.stop()
    expect(lost).to_be_visible()
    live.start()
    live.finish(job_id)
    visitor.sees(visitor.says("urgency.within_days"))
    expect(lost).to_be_hidden()


def test_where_no_stream_is_free_the_page_asks_instead(
    visit: Visit, second_server: Callable[..., Live], mole: Path
) -> None:
    live = second_server(api_threads=4)
    visitor = visit(live=live)
    with Client(live.url) as client:
        other = client.submit(mole)
    with httpx.stream("GET", f"{live.url}/v1/jobs/{other.id}/events", timeout=30):
        job_id = visitor.send(mole)
        live.see(job_id)
        visitor.sees("Melanoma")
        live.finish(job_id)
        visitor.sees(visitor.says("urgency.within_days"))
        live.rooms.waiters.close()


def test_a_server_that_is_away_is_said_in_words(
    visit: Visit, second_server: Callable[..., Live], mole: Path
) -> None:
    live = second_server()
    visitor = visit("fr", live=live)
    visitor.open()
    visitor.choose(mole)
    live.stop()
    try:
        visitor.button("ask.submit").click()
        expect(visitor.page.get_by_role("alert").last).to_contain_text(visitor.says("problem.offline"))
        expect(visitor.button("ask.submit")).to_be_enabled()
        visitor.go("nav.batches")
        visitor.sees(visitor.says("page.trouble"))
        visitor.shot("offline")
    finally:
        live.start()
    visitor.go("nav.ask")
    visitor.sees(visitor.says("ask.drop"))


def test_wrong_fields_are_named_and_focused(visit: Visit, mole: Path, tmp_path: Path) -> None:
    visitor = visit()
    visitor.open()
    visitor.choose(mole)
    visitor.page.fill("#field-age", "old")
    visitor.button("ask.submit").click()
    expect(visitor.page.locator("form [role=alert]")).to_contain_text("Correct the marked fields")
    expect(visitor.page.locator("#field-age")).to_be_focused()
    expect(visitor.page.locator("#field-age")).to_have_attribute("aria-invalid", "true")
    visitor.accessible()
    visitor.shot("refused")
    (tmp_path / "broken.jpg").write_bytes(mole.read_bytes()[:100])
    visitor.page.fill("#field-age", "")
    visitor.choose(tmp_path / "broken.jpg")
    visitor.sees("the browser cannot show this format")
    visitor.button("ask.submit").click()
    expect(visitor.page.locator("form [role=alert]")).to_contain_text("The picture is broken")
    expect(visitor.page.locator("[aria-invalid]")).to_have_count(0)


@pytest.mark.parametrize("address", ["#/nowhere", "#/jobs/00000000-0000-0000-0000-000000000000"])
def test_an_address_of_nothing_says_so(visit: Visit, address: str) -> None:
    visitor = visit()
    visitor.open(address)
    expect(visitor.page.locator("h1")).to_have_text(re.compile("nothing at this address|did not work"))
    visitor.accessible()


def test_markup_stays_text_wherever_it_comes_from(visit: Visit, page_server: Live, mole: Path) -> None:
    visitor = visit()
    with Client(page_server.url) as client:
        job = client.submit(
            mole, filename=f"{HURT}.jpg".replace("/", ""), question=HURT, metadata={HURT: HURT}
        )
    page_server.answer = ANSWER | {
        "text": f"{HURT}\n\n[1]", "next_step": HURT, "department": HURT, "cannot_tell": [HURT], "model": HURT,
        "source": "language_model", "refused_reason": HURT, "checks": [{"name": HURT, "passed": False}],
        "citations": [{"id": "x", "title": HURT, "quote": HURT, "url": "javascript:window.hurt=1"}],
    }  # fmt: skip
    warning = {"code": "low_quality", "detail": HURT}
    try:
        page_server.see(
            job.id,
            warnings=[warning],
            findings=[{"label": "mel", "name": HURT, "probability": 1, "above_threshold": True}],
        )
        page_server.finish(job.id)
    finally:
        page_server.answer = ANSWER
    with Client(page_server.url) as client:
        client.review(job.id, "disagree", note=HURT)
    visitor.open(f"#/jobs/{job.id}")
    expect(visitor.page.locator(".reviews li")).to_have_count(1)
    for summary in visitor.page.locator("summary").all():
        summary.click()
    assert visitor.page.get_by_text(HURT).count() >= 9
    assert visitor.page.locator("a[href^=javascript]").count() == 0
    visitor.open("#/history")
    visitor.sees(HURT)
    visitor.open(f"#/compare/{job.id}/{job.id}")
    visitor.sees(HURT)
    assert visitor.page.evaluate("window.hurt") is None
    assert visitor.page.locator("main script, main img[onerror]").count() == 0
    visitor.shot("markup")


def test_a_framing_page_and_a_foreign_origin_get_nothing(visit: Visit, page_server: Live) -> None:
    """The page's own policy: no frame, no form elsewhere, no script of anybody else's."""
    visitor = visit()
    visitor.open()
    blocked = visitor.page.evaluate(
        """() => new Promise((resolve) => {
            document.addEventListener("securitypolicyviolation", (event) => resolve(event.effectiveDirective));
            const script = document.createElement("script");
            script.textContent = "window.hurt = 1";
            document.body.append(script);
        })"""
    )
    assert blocked == "script-src-elem"
    assert visitor.page.evaluate("window.hurt") is None
    visitor.trouble.clear()  # the browser told of it, as it should


def test_many_visitors_wait_at_once(visit: Visit, page_server: Live, mole: Path) -> None:
    """One finished while others watch: nobody's page is mixed up with another's."""
    visitors = [visit(), visit("fr")]
    ids = [visitor.send(mole, question=f"Number {number}") for number, visitor in enumerate(visitors)]
    for job_id in reversed(ids):
        page_server.see(job_id)
    for job_id in ids:
        page_server.finish(job_id)
    for number, visitor in enumerate(visitors):
        visitor.sees(visitor.says("urgency.within_days"))
        visitor.sees(f"Number {number}")
