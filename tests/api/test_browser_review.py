"""The review queue and the agreement that follows from it, in headless Chromium."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from api.client import Client
from deploy.drawn import jpeg
from shared import keys
from shared.catalog import SKIN_LABELS
from tests.api.browsing import PLACES, Visitor
from tests.api.live import Live


@pytest.mark.parametrize(("lang", "size"), PLACES)
def test_a_clinician_goes_through_the_queue(
    visit: Callable[..., Visitor], second_server: Callable[..., Live], tmp_path: Path, lang: str, size: str
) -> None:
    live = second_server(auth="keys")
    _, key = keys.create(live.db, f"queue-{lang}-{size}", keys.SCOPES)
    (tmp_path / "mole.jpg").write_bytes(jpeg())
    with Client(live.url, key) as client:
        first, second, _ = (client.submit(tmp_path / "mole.jpg", question="Which?").id for _ in range(3))
    for job_id in (first, second):
        live.see(job_id)
        live.finish(job_id)
    visitor = visit(lang, size, live=live)
    visitor.sign_in(key)
    page, title = visitor.page, visitor.page.locator("h2 a")

    visitor.go("nav.review")
    visitor.sees(visitor.says("queue.place", n=1, of=2))
    expect(title).to_have_attribute("href", f"#/jobs/{first}")
    expect(visitor.button("queue.previous")).to_be_disabled()
    visitor.accessible()
    visitor.shot("queue")
    page.get_by_label(visitor.says("review.agree")).check()
    visitor.button("review.send").click()
    visitor.sees(f"{visitor.says('review.thanks')} {visitor.says('queue.place', n=2, of=2)}")
    expect(title).to_have_attribute("href", f"#/jobs/{second}")
    expect(page.locator("h2").first).to_be_focused()

    visitor.button("queue.previous").click()
    expect(page.locator(".reviews li")).to_have_count(1)
    expect(page.locator(".reviews li")).to_contain_text(visitor.says("review.said.agree"))
    visitor.button("queue.next").click()
    expect(title).to_have_attribute("href", f"#/jobs/{second}")
    page.get_by_label(visitor.says("review.disagree")).check()
    page.get_by_label(visitor.says("review.label")).select_option("nv")
    visitor.button("review.send").click()
    visitor.sees(visitor.says("queue.end"))
    expect(visitor.button("queue.previous")).to_be_focused()

    visitor.go("agreement.title")
    row = page.locator(".agreement tbody tr").first
    expect(row.locator("td").first).to_have_text("2")
    expect(row.locator("td").nth(1)).to_contain_text("50")
    nevus = next(label for label in SKIN_LABELS if label.code == "nv")
    expect(row.locator(".instead")).to_have_text(f"{getattr(nevus, lang)} 1")
    visitor.accessible()
    visitor.shot("agreement")
    visitor.go("queue.title")
    visitor.sees(visitor.says("queue.none"))
