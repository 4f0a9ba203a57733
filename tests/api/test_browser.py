"""Every flow of the page in headless Chromium, with screenshots in var/screenshots."""

import hashlib
import io
import itertools
import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.diagnosticreport import DiagnosticReport
from PIL import Image
from playwright.sync_api import Page, Route, expect
from sqlalchemy import select

from api.client import Client
from deploy.drawn import jpeg
from shared import keys
from shared.drafts import Draft
from shared.job_types import NewArtifact
from shared.queue import Hints
from shared.tables import JobRow
from tests.api.browsing import Visitor
from tests.api.live import ANSWER, Live

Visit = Callable[..., Visitor]

LANGUAGES = ("en", "ko", "fr")
PLACES = list(itertools.product(LANGUAGES, ("desk", "phone")))


@pytest.fixture(scope="module")
def mole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "mole.jpg"
    path.write_bytes(jpeg())
    return path


@pytest.fixture
def done(page_server: Live, visit: Visit, mole: Path) -> Visitor:
    """A visitor who looks at a job that has ended well."""
    visitor = visit()
    job_id = visitor.send(mole)
    page_server.see(job_id)
    page_server.finish(job_id)
    expect(visitor.page.locator(".review h2")).to_be_visible()
    return visitor


def here(visitor: Visitor) -> str:
    return visitor.page.url.rpartition("/")[2]


@pytest.mark.parametrize(("lang", "size"), PLACES)
def test_from_a_picture_to_an_answer(
    visit: Visit, page_server: Live, mole: Path, lang: str, size: str
) -> None:
    visitor = visit(lang, size)
    visitor.open()
    expect(visitor.page.locator("html")).to_have_attribute("lang", lang)
    visitor.sees(visitor.says("page.notice"))
    expect(visitor.page.locator("#privacy")).to_contain_text(visitor.says("privacy.nobody"))
    expect(visitor.button("ask.submit")).to_be_disabled()
    visitor.accessible()
    visitor.shot("1-ask")
    visitor.choose(mole)
    expect(visitor.page.get_by_alt_text(visitor.says("ask.preview", name="mole.jpg"))).to_be_visible()
    visitor.page.fill("#field-question", "위험한가요? Dangereux ?")
    visitor.page.fill("#field-age", "45")
    visitor.page.select_option("#field-sex", "female")
    visitor.page.select_option("#field-site", label=visitor.says("site.lower extremity"))
    visitor.page.select_option("#field-explain", "low")
    visitor.shot("2-chosen")
    visitor.button("ask.submit").click()
    visitor.page.wait_for_url("**/#/jobs/*")
    job_id = here(visitor)
    with Client(page_server.url) as client:
        place = client.get(job_id).position
    visitor.sees(visitor.says("job.position", n=place, stage=visitor.says("stage.vision.noun")))
    row = page_server.db.read(lambda session: session.get(JobRow, job_id))
    assert row
    assert (row.question, row.age, row.sex, row.site) == (
        "위험한가요? Dangereux ?",
        45,
        "female",
        "lower extremity",
    )
    assert (row.lang, row.filename, row.external, row.explain) == (lang, "mole.jpg", True, "low")
    page_server.see(job_id)
    visitor.sees("62")
    claim = page_server.claim(job_id, "answer")
    visitor.sees(visitor.says("stage.answer"))
    hints = Hints(page_server.settings)
    draft = Draft(hints, job_id, claim.jobs[0].attempt)
    draft.add("The picture suggests")
    visitor.sees("The picture suggests")
    visitor.sees(visitor.says("answer.writing"))
    visitor.shot("3-writing")
    draft.add(" melanoma.")
    draft.end()
    hints.close()
    visitor.sees("The picture suggests melanoma.")
    page_server.finish(job_id, claim)
    visitor.sees(visitor.says("urgency.within_days"))
    expect(visitor.text(visitor.says("answer.writing"))).to_be_hidden()
    visitor.sees(visitor.says("warning.no_language_model"))
    visitor.page.locator(".citation summary").click()
    visitor.sees("Melanoma is a cancer.")
    expect(visitor.page.locator(".found .mark")).to_have_count(7)
    expect(visitor.page.locator(".tag")).to_have_count(2)
    expect(visitor.page.get_by_alt_text(visitor.says("picture.alt", name="mole.jpg"))).to_be_visible()
    visitor.sees(visitor.says("review.title"))
    visitor.accessible()
    visitor.shot("4-done")


@pytest.mark.parametrize(("size", "view"), [("desk", ""), ("phone", "done")])
def test_the_dark_page_is_as_readable(
    visit: Visit, page_server: Live, mole: Path, size: str, view: str
) -> None:
    visitor = visit("en", size, "dark")
    visitor.open()
    if view:
        job_id = visitor.send(mole, question="Is this dangerous?")
        page_server.see(job_id)
        page_server.finish(job_id)
        expect(visitor.page.locator(".review h2")).to_be_visible()
    visitor.accessible()
    visitor.shot(f"dark-{view or 'ask'}")


def transfer(page: Page, how: str, mole: Path) -> None:
    """A file in the hand of the mouse, or on the clipboard."""
    page.evaluate(
        """([how, bytes]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], `${how}.jpg`, { type: "image/jpeg" }));
            const event = how === "drop"
                ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
                : new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
            document.querySelector(how === "drop" ? ".drop" : "body").dispatchEvent(event);
        }""",
        [how, list(mole.read_bytes())],
    )


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_a_picture_may_be_dropped_or_pasted(visit: Visit, mole: Path, how: str) -> None:
    visitor = visit()
    visitor.open()
    transfer(visitor.page, how, mole)
    expect(visitor.page.get_by_alt_text(f"Preview of {how}.jpg")).to_be_visible()
    expect(visitor.button("ask.submit")).to_be_enabled()
    visitor.button("ask.clear").click()
    expect(visitor.button("ask.submit")).to_be_disabled()


def test_a_phone_offers_its_camera(visit: Visit) -> None:
    phone, desk = visit("en", "phone"), visit()
    phone.open()
    desk.open()
    camera = phone.page.locator("#camera")
    expect(camera).to_have_attribute("capture", "environment")
    expect(phone.page.get_by_text("Take a picture")).to_be_visible()
    expect(desk.page.locator("#camera")).to_have_count(0)


def test_the_keyboard_is_enough(visit: Visit, mole: Path) -> None:
    visitor = visit()
    visitor.open()
    page = visitor.page
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("#files")).to_be_focused()
    visitor.choose(mole)
    page.locator("#field-question").focus()
    page.keyboard.type("Typed")
    page.locator("#field-age").focus()
    page.keyboard.press("Enter")  # in a field: submits
    page.wait_for_url("**/#/jobs/*")
    expect(page.locator("h1")).to_be_focused()
    page.get_by_role("group", name="Picture, can be zoomed and moved").focus()
    page.keyboard.press("+")
    expect(page.locator(".stage")).to_have_attribute("style", re.compile(r"scale\(1\.5\)"))
    page.keyboard.press("ArrowRight")
    expect(page.locator(".stage")).to_have_attribute("style", re.compile(r"translate\(-40px"))
    page.keyboard.press("0")
    expect(page.locator(".stage")).to_have_attribute("style", re.compile(r"scale\(1\)"))


def test_what_cannot_be_asked_says_why(visit: Visit) -> None:
    visitor = visit()
    visitor.open()
    menu = visitor.page.locator("#field-pipeline")
    assert menu.locator("option[disabled]").count() == 4
    visitor.page.get_by_text("Why 4 of them are not available").click()
    expect(visitor.page.locator("form details li")).to_have_count(4)
    visitor.shot("unavailable")


@pytest.mark.parametrize(("ticked", "external"), [(False, True), (True, False)])
def test_who_reads_it_is_said_before_it_is_sent(
    visit: Visit, second_server: Callable[..., Live], mole: Path, ticked: bool, external: bool
) -> None:
    live = second_server(
        answers="openai",
        openai_api_key="k",
        openai_model="m-1",
        openai_base_url="https://llm.example/v1",
        fallback_model="m-2",
        fallback_base_url="https://second.example/v1",
    )
    visitor = visit(live=live)
    visitor.open()
    expect(visitor.page.locator("#privacy")).to_contain_text(
        "language model m-1 at llm.example or m-2 at second.example"
    )
    visitor.choose(mole)
    if ticked:
        visitor.page.get_by_label("Keep it in the house").check()
    visitor.shot("model")
    visitor.button("ask.submit").click()
    visitor.page.wait_for_url("**/#/jobs/*")
    job_id = here(visitor)
    row = live.db.read(lambda session: session.get(JobRow, job_id))
    assert row
    assert row.external is external


def test_several_pictures_become_a_batch(visit: Visit, page_server: Live, mole: Path, tmp_path: Path) -> None:
    visitor = visit()
    names = ["é 1.jpg", "a.jpg", "a.txt.png", "x" * 120 + ".jpg"]
    for number, name in enumerate(names):
        Image.new("RGB", (40 + number, 30), (120, 80, 60)).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    batch_id = visitor.send(*(tmp_path / name for name in (*names, "broken.png")), question="Alle?")
    page_server.read_archives()
    wanted = select(JobRow.id, JobRow.entry_name, JobRow.question, JobRow.width).where(
        JobRow.batch_id == batch_id
    )
    rows = page_server.db.read(lambda session: session.execute(wanted.order_by(JobRow.entry)).all())
    assert [(row.entry_name, row.width) for row in rows[:3]] == [
        (name, 40 + i) for i, name in enumerate(names[:3])
    ]
    assert rows[3].entry_name == "x" * 96 + ".jpg"
    assert {row.question for row in rows} == {"Alle?"}
    visitor.sees("Entries that became no job: 1")
    visitor.shot("batch-running")
    for row in rows:
        page_server.see(row.id)
        page_server.finish(row.id)
    page_server.settle()
    expect(visitor.page.locator(".status.completed")).to_contain_text("Done · 100%")
    visitor.text("Entries that became no job").click()
    visitor.sees("broken.png")
    expect(visitor.page.locator(".jobs tbody tr")).to_have_count(4)
    visitor.accessible()
    visitor.shot("batch-done")
    for key in ("batch.csv", "batch.jsonl", "batch.zip"):
        with visitor.page.expect_download() as told:
            visitor.go(key)
        assert told.value.path().stat().st_size > 100
    visitor.page.get_by_role("link", name="Batches").click()
    visitor.sees("pictures.tar")
    visitor.accessible()


def test_an_archive_is_sent_as_it_is(visit: Visit, page_server: Live, mole: Path, tmp_path: Path) -> None:
    visitor = visit("fr", "phone")
    with tarfile.open(tmp_path / "study.tar.gz", "w:gz") as archive:
        archive.add(mole, "one.jpg")
    visitor.open()
    visitor.choose(mole, tmp_path / "study.tar.gz")
    visitor.sees(visitor.says("ask.mixed"))
    visitor.send(tmp_path / "study.tar.gz")
    visitor.sees("study.tar.gz")
    page_server.read_archives()
    visitor.sees("one.jpg")
    visitor.button("job.cancel").click()
    visitor.sees(visitor.says("batch.canceled"))
    visitor.accessible()
    visitor.shot("batch-canceled")


def test_history_is_filtered_and_two_are_compared(visit: Visit, page_server: Live, mole: Path) -> None:
    visitor = visit()
    for question in ("First unicorn?", "Second unicorn?"):
        job_id = visitor.send(mole, question=question)
        page_server.see(job_id)
    page_server.finish(job_id)
    visitor.go("nav.history")
    visitor.page.get_by_label("Words").fill("unicorn")
    visitor.page.keyboard.press("Enter")
    rows = visitor.page.locator(".jobs tbody tr")
    expect(rows).to_have_count(2)
    visitor.shot("history")
    visitor.accessible()
    visitor.page.get_by_label("Status", exact=True).select_option("succeeded")
    expect(rows).to_have_count(1)
    visitor.page.get_by_label("To", exact=True).fill("2020-01-01")
    visitor.sees("There is nothing here yet.")
    visitor.page.get_by_label("To", exact=True).fill("")
    visitor.page.get_by_label("Status", exact=True).select_option("")
    expect(rows).to_have_count(2)
    for tick in rows.get_by_role("checkbox").all():
        tick.check()
    visitor.go("history.compare")
    expect(visitor.page.locator(".found tbody tr")).to_have_count(7)
    visitor.sees("0 points")
    expect(visitor.page.locator(".frame img")).to_have_count(2)
    visitor.accessible()
    visitor.shot("compare")


def test_a_rerun_is_compared_with_what_it_repeats(done: Visitor, page_server: Live) -> None:
    first = here(done)
    done.button("job.again").click()
    done.page.wait_for_url(lambda url: not url.endswith(first))
    second = here(done)
    probabilities = [{**one, "probability": 0.5} for one in PAGE_FINDINGS]
    page_server.see(second, findings=probabilities)
    page_server.finish(second)
    done.go("job.compare")
    expect(done.page).to_have_url(re.compile(f"#/compare/{first}/{second}$"))
    done.sees("-12 points")


PAGE_FINDINGS = [{"label": "mel", "name": "Melanoma", "probability": 0.62, "above_threshold": True}]


def test_a_clinician_disagrees(done: Visitor) -> None:
    page = done.page
    expect(page.get_by_label("What it is instead")).to_be_hidden()
    page.get_by_label("No, I disagree").check()
    page.get_by_label("What it is instead").select_option(label="Melanocytic nevi")
    page.get_by_label("Note").fill("A plain <b>mole</b>.")
    done.button("review.send").click()
    done.sees("Disagreed: Melanocytic nevi")
    done.sees("A plain <b>mole</b>.")
    page.get_by_label("Yes, I agree").check()
    done.button("review.send").click()
    expect(page.locator(".reviews li")).to_have_count(2)
    expect(page.locator(".reviews li").first).to_contain_text("Agreed")
    done.accessible()
    done.shot("review")
    page.reload()
    expect(page.locator(".reviews li")).to_have_count(2)


def test_the_report_is_for_paper_and_for_other_systems(done: Visitor) -> None:
    with done.page.expect_download() as told:
        done.go("job.fhir")
    report = DiagnosticReport.model_validate_json(told.value.path().read_bytes())
    assert report.id == here(done)
    done.page.emulate_media(media="print")
    for hidden in (".top", ".actions", ".review", ".tools", ".messages h2"):
        expect(done.page.locator(hidden).first).to_be_hidden()
    for shown in ("Melanoma", "See a doctor within days", "Not a medical device"):
        expect(done.page.locator("body")).to_contain_text(shown)
    expect(done.page.locator(".print-only")).to_be_visible()
    done.shot("print")
    assert done.page.pdf(format="A4").startswith(b"%PDF")


def test_a_job_that_ended_before_its_stream_opened_is_shown_whole(
    visit: Visit, page_server: Live, mole: Path
) -> None:
    visitor = visit()

    def end_first(route: Route) -> None:
        job_id = route.request.url.split("/")[-2]
        page_server.see(job_id)
        page_server.finish(job_id)
        route.continue_()

    visitor.page.route("**/events", end_first)
    visitor.send(mole)
    expect(visitor.page.get_by_role("link", name=visitor.says("job.fhir"), exact=True)).to_be_visible()
    expect(visitor.page.locator(".review h2")).to_be_visible()


def layer(colour: tuple[int, int, int, int]) -> bytes:
    """As large as the drawn picture."""
    file = io.BytesIO()
    Image.new("RGBA", (600, 450), colour).save(file, "PNG")
    return file.getvalue()


def test_layers_fade_over_the_picture(visit: Visit, page_server: Live, mole: Path) -> None:
    visitor = visit()
    job_id = visitor.send(mole)
    made = []
    for name, colour in (("overlay", (255, 0, 0, 90)), ("explanation", (0, 0, 255, 90))):
        data = layer(colour)
        page_server.rooms.storage.put(f"{job_id}/{name}", data)
        made.append(NewArtifact(name, "image/png", hashlib.sha256(data).hexdigest(), len(data)))
    segment = {
        "label": "mel", "name": "Lesion", "area_px": 27000, "area_fraction": 0.1, "bbox": [0, 0, 5, 2],
        "mean_probability": 0.9, "position": "centre",
    }  # fmt: skip
    page_server.see(job_id, artifacts=tuple(made), segments=[segment])
    shown = visitor.page.locator(".layer")
    expect(shown).to_have_attribute("src", re.compile("/artifacts/overlay$"))
    expect(visitor.page.locator(".legend")).to_contain_text("Lesion: 10%")
    slider = visitor.page.get_by_label("Opacity")
    slider.fill("25")
    expect(shown).to_have_css("opacity", "0.25")
    visitor.shot("overlay")
    visitor.page.get_by_label("Explanation").check()
    expect(shown).to_have_attribute("src", re.compile("/artifacts/explanation$"))
    expect(visitor.page.locator(".legend")).to_be_hidden()
    meaning = visitor.page.get_by_text("Green areas spoke for the first finding")
    expect(meaning).to_be_visible()
    visitor.page.get_by_label("Nothing").check()
    expect(shown).to_be_hidden()
    expect(meaning).to_have_count(0)
    visitor.accessible()


def test_citations_in_the_text_open_what_they_quote(visit: Visit, page_server: Live, mole: Path) -> None:
    visitor = visit()
    job_id = visitor.send(mole)
    page_server.see(job_id)
    page_server.answer = ANSWER | {"text": "It may be a melanoma [1], or not [2]."}
    try:
        page_server.finish(job_id)
    finally:
        page_server.answer = ANSWER
    visitor.page.get_by_role("button", name="Open source 1").click()
    visitor.sees("Melanoma is a cancer.")
    visitor.sees("or not [2].")
    expect(visitor.page.get_by_role("button", name="Open source 2")).to_have_count(0)


def test_a_server_with_keys_asks_for_one(
    visit: Visit, second_server: Callable[..., Live], mole: Path
) -> None:
    live = second_server(auth="keys")
    _, key = keys.create(live.db, "anna", keys.SCOPES)
    visitor = visit("ko", "phone", live=live)
    visitor.page.goto(live.url)
    visitor.sees(visitor.says("session.hint"))
    visitor.accessible()
    visitor.shot("sign-in")
    field = visitor.page.locator("#field-key")
    field.fill("mq_" + "x" * 43)
    visitor.button("session.enter").click()
    visitor.sees(visitor.says("problem.wrong-key"))
    field.fill(key)
    visitor.button("session.enter").click()
    visitor.sees(visitor.says("ask.drop"))
    job_id = visitor.send(mole, question="Whose?")
    live.see(job_id)
    live.finish(job_id)
    visitor.sees(visitor.says("urgency.within_days"))
    expect(visitor.page.locator(".stage img")).to_have_js_property("complete", True)
    visitor.page.get_by_label(visitor.says("review.agree")).check()
    visitor.button("review.send").click()
    visitor.sees(visitor.says("review.said.agree"))
    visitor.button("session.leave").click()
    visitor.sees(visitor.says("session.hint"))
    visitor.page.goto(f"{live.url}/#/jobs/{job_id}")
    visitor.page.reload()
    visitor.sees(visitor.says("session.hint"))


def test_the_language_is_remembered(visit: Visit) -> None:
    visitor = visit("en")
    visitor.open("#/history")
    visitor.page.select_option("#lang", "ko")
    expect(visitor.page.locator("h1")).to_have_text("기록")
    visitor.page.goto(visitor.live.url)
    expect(visitor.page.locator("html")).to_have_attribute("lang", "ko")


# The browser tells of a paint some time after it.
PAINTED = """new Promise((resolve) => new PerformanceObserver((list) => {
    const [first] = list.getEntriesByName("first-contentful-paint");
    if (first) resolve(first.startTime);
}).observe({ type: "paint", buffered: true }))"""
LOADED = """Object.fromEntries(
    [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
        .map((one) => [one.name, one.decodedBodySize]))"""


def test_the_first_view_is_light(visit: Visit, record_property: Callable[[str, Any], None]) -> None:
    visitor = visit()
    visitor.open()
    expect(visitor.page.locator(".brand img")).to_have_js_property("complete", True)
    record_property("first_contentful_paint_ms", visitor.page.evaluate(PAINTED))
    sizes: dict[str, int] = visitor.page.evaluate(LOADED)
    record_property("bytes", sum(sizes.values()))
    assert 20_000 < sum(sizes.values()) < 100_000, json.dumps(sizes, indent=1)


def test_asking_again_shows_in_the_thread(page_server: Live, done: Visitor) -> None:
    page, job_id = done.page, here(done)
    page.fill("#field-message", "Does it spread?")
    done.button("message.send").click()
    done.sees(done.says("message.waiting"))
    expect(done.button("message.send")).to_be_disabled()
    with Client(page_server.url) as client:
        (message,) = client.messages(job_id)
    assert (message.question, message.lang) == ("Does it spread?", "en")
    page_server.finish(message.id)
    expect(page.locator(".thread .text")).to_contain_text("The picture suggests melanoma.")
    expect(page.locator(".thread .asked")).to_have_text("Does it spread?")
    expect(done.button("message.send")).to_be_enabled()
    done.accessible()
    done.shot("6-thread")
    page.reload()
    expect(page.locator(".thread .text")).to_contain_text("The picture suggests melanoma.")


def test_a_question_that_is_refused_says_why_and_stays(page_server: Live, done: Visitor) -> None:
    job_id = here(done)
    with Client(page_server.url) as client:
        elsewhere = client.ask(job_id, "Asked elsewhere?").id
    done.page.fill("#field-message", "Does it spread?")
    done.button("message.send").click()
    done.sees(done.says("problem.message-refused"))
    expect(done.page.locator("#field-message")).to_have_value("Does it spread?")
    with Client(page_server.url) as client:
        client.cancel(elsewhere)
