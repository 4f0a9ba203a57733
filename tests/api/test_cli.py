"""The command line against the real app: what people and machines see, and the exit codes."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from api import cli
from api.client import Client
from shared.settings import ROOT, Settings, environment_with
from shared.tables import JobRow
from tests.api.driving import Waits
from tests.api.live import ANSWER, URL, Live, models, picture

sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
Medq = Callable[..., Result]


@pytest.fixture
def live(settings: Callable[..., Settings], tmp_path: Path) -> Iterator[Live]:
    with capture_logs():  # else the server's log stands in what the command printed: they share a process
        server = Live(settings(models_dir=str(models(tmp_path / "models"))))
        yield server
        server.close()


@pytest.fixture
def medq(live: Live) -> Medq:
    return lambda *words, **more: run(live.url, *words, **more)


@pytest.fixture
def image(tmp_path: Path) -> str:
    return str(picture(tmp_path / "mole.jpg"))


@pytest.fixture
def asked_elsewhere(settings: Callable[..., Settings], tmp_path: Path) -> Iterator[Live]:
    """A server whose language model is somebody else's."""
    away: dict[str, Any] = {"answers": "openai", "openai_api_key": "none", "openai_model": "m-1"}
    away |= {"openai_base_url": "https://llm.example/v1?key=secret"}
    with capture_logs():
        server = Live(settings(models_dir=str(models(tmp_path / "models")), **away))
        yield server
        server.close()


def run(url: str, *words: object, **more: Any) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words], env={"MEDQ_URL": url}, **more)


def rows(result: Result) -> list[dict[str, Any]]:
    return [json.loads(row) for row in result.stdout.splitlines()]


@sqlite
def test_submit_shows_warnings_findings_answer_and_sources(medq: Medq, live: Live, image: str) -> None:
    live.work()
    shown = medq("submit", image, "-q", "Is it dangerous?", "--age", 45, "--sex", "male", "--site", "back")
    assert shown.exit_code == 0, shown.stderr
    for text in (
        "mole.jpg", "succeeded", "not a diagnosis", "No language model was used", "Melanoma (mel)",
        "62.0 %", "above threshold (0.250)", "See a doctor within days", "Dermatology",
        "The picture suggests melanoma", "how the spot feels", "NCI: Melanoma", URL,
        "not reviewed by a clinician", "“Melanoma is a cancer.”",
    ):  # fmt: skip
        assert text in shown.stdout, text
    assert shown.stdout.count("Show it to a dermatologist.") == 1


@sqlite
def test_several_images_are_under_way_at_once_and_come_out_in_order(
    medq: Medq, live: Live, tmp_path: Path
) -> None:
    files = [picture(tmp_path / f"{number}.jpg", 20 * number) for number in range(1, 7)]
    live.work(after=len(files))  # would wait for ever if they were sent one after the other
    found = rows(medq("submit", *files, "--json"))
    assert [job["input"]["filename"] for job in found] == [file.name for file in files]
    assert {job["status"] for job in found} == {"succeeded"}


@sqlite
def test_one_refused_image_does_not_stop_the_others(
    medq: Medq, live: Live, image: str, tmp_path: Path
) -> None:
    live.work()
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    shown = medq("submit", text, image, "--json")
    refused, job = rows(shown)
    assert shown.exit_code == 1
    assert (refused["image"], refused["status"], refused["error"]["status"]) == (str(text), "refused", 415)
    assert job["status"] == "succeeded"
    assert "Unsupported image" in medq("submit", text).stderr


@sqlite
def test_without_waiting_only_the_id_comes_back(medq: Medq, image: str) -> None:
    shown = medq("submit", image, "--no-wait")
    assert shown.exit_code == 0
    got = medq("get", shown.stdout.strip())
    assert "queued" in got.stdout
    assert "Not finished yet" in got.stdout


@sqlite
def test_a_failed_job_is_exit_code_1_and_says_why(medq: Medq, live: Live, image: str) -> None:
    live.error = True
    live.work()
    shown = medq("submit", image)
    assert shown.exit_code == 1
    assert "Image failed" in shown.stdout
    (job,) = rows(medq("list", "--json"))
    assert job["error"]["title"] == "Image failed"
    for command in ("get", "watch"):
        assert medq(command, job["id"]).exit_code == 1


@sqlite
def test_get_and_watch_wait_for_the_end(medq: Medq, live: Live, image: str) -> None:
    ids = [medq("submit", image, "--no-wait").stdout.strip() for _ in range(2)]
    live.work()
    assert "succeeded" in medq("get", "--wait", ids[0]).stdout
    assert rows(medq("watch", "--json", ids[1]))[0]["status"] == "succeeded"
    assert [job["id"] for job in rows(medq("list", "--json"))] == ids[::-1]
    assert [job["id"] for job in rows(medq("list", "--oldest", "--unreviewed", "--json"))] == ids


@sqlite
def test_list_cancel_rerun_and_erase(medq: Medq, live: Live, image: str) -> None:
    assert "No jobs yet" in medq("list").stdout
    first = medq("submit", image, "--no-wait", "-q", "Why?").stdout.strip()
    listed = medq("list").stdout
    assert first in listed
    assert "Why?" in listed
    assert "canceled" in medq("cancel", first).stdout
    finished = medq("cancel", first)
    assert (finished.exit_code, "Job finished" in finished.stderr) == (1, True)
    live.work()
    again = medq("rerun", first, "--json")
    assert rows(again)[0]["retry_of"] == first
    assert medq("erase", first, input="n\n").exit_code == 1
    assert rows(medq("get", first, "--json"))[0]["question"] == "Why?"
    assert medq("erase", first, input="y\n").exit_code == 0
    assert not rows(medq("get", first, "--json"))[0]["question"]


@sqlite
def test_pipelines_say_what_is_missing(medq: Medq) -> None:
    shown = medq("pipelines").stdout
    skin = next(row for row in shown.splitlines() if "skin" in row)
    scalp = next(row for row in shown.splitlines() if "scalp" in row)
    assert "yes" in skin
    assert "akiec, bcc, bkl, df, mel, nv, vasc" in skin
    assert "no" in scalp.split()
    assert {row["name"] for row in rows(medq("pipelines", "--json"))} >= {"skin", "scalp"}


@sqlite
def test_a_server_cannot_control_the_terminal(medq: Medq, live: Live, image: str) -> None:
    hostile = "\x1b[2J\x1b]0;owned\x07\x9b31mred \u202etxt.exe [bold]markup[/bold] \x1b]8;;http://evil\x1b\\x"
    live.answer = ANSWER | {"text": hostile, "next_step": hostile, "department": hostile}
    live.warnings = [{"code": "low_quality", "detail": hostile}]
    live.work()
    shown = medq("submit", image, "-q", hostile)
    assert shown.exit_code == 0
    assert not set(shown.stdout) & set("\x1b\x9b\x07\u202e")
    assert "owned" not in shown.stdout
    assert "[bold]markup[/bold]" in shown.stdout
    machine = medq("list", "--json").stdout
    assert not set(machine) & set("\x1b\x9b\x07")
    assert json.loads(machine)["answer"]["text"] == hostile


@sqlite
def test_ctrl_c_ends_the_waiting_at_once_and_not_the_job(live: Live, image: str, waits: Waits) -> None:
    with (
        subprocess.Popen(
            [sys.executable, "-m", "api.cli", "submit", image],
            env=environment_with({"MEDQ_URL": live.url}),
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
        Client(live.url) as client,
    ):
        waits.begun()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr
        assert "The jobs go on" in process.stderr.read()
        (job,) = client.list()
        assert job.status == "queued"


def test_an_unreachable_server_is_exit_code_2_and_says_so(image: str) -> None:
    for words in (["submit", image], ["list"], ["get", "x"], ["watch", "x"], ["pipelines"]):
        shown = run("http://127.0.0.1:9", *words)
        assert shown.exit_code == 2
        assert "No server answers at http://127.0.0.1:9" in shown.stderr
        assert not shown.stdout


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["submit"], "IMAGE"),
        (["submit", "missing.jpg"], "missing.jpg"),
        (["submit", "."], "directory"),
        (["submit", __file__, "--age", "121"], "--age"),
        (["submit", __file__, "--sex", "x"], "--sex"),
        (["submit", __file__, "-q", "\udcff"], "Unicode"),
        (["submit", __file__, "-q", "x" * 4001], "4,001"),
        (["get", "../x"], "not a job id"),
        (["nonsense"], "nonsense"),
    ],
)
def test_bad_usage_is_exit_code_2_and_names_what_is_wrong(words: list[str], named: str) -> None:
    shown = run("http://127.0.0.1:9", *words)
    assert shown.exit_code == 2
    assert named in shown.stderr


@sqlite
def test_a_job_is_asked_about_again(medq: Medq, live: Live, image: str) -> None:
    live.work()
    job_id = rows(medq("submit", image, "--json"))[0]["id"]
    assert "Nothing was asked again" in medq("messages", job_id).stderr
    asked = medq("ask", job_id, "Does it spread?")
    assert asked.exit_code == 0, asked.stderr
    assert "The picture suggests melanoma" in asked.stdout
    (message,) = rows(medq("messages", job_id, "--json"))
    assert (message["question"], message["turn"]) == ("Does it spread?", 1)
    assert "Does it spread?" in medq("messages", job_id).stdout
    assert medq("ask", message["id"], "And then?").exit_code == 1


@sqlite
def test_the_language_model_is_named_before_anything_is_sent(
    asked_elsewhere: Live, image: str, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    told = run(asked_elsewhere.url, "submit", broken, "-q", "What is it?")
    assert told.exit_code == 1
    first, second = told.stderr.splitlines()
    assert "m-1 at llm.example" in first
    assert "--no-external" in first
    assert "secret" not in first
    assert second.startswith(str(broken))
    assert run(asked_elsewhere.url, "submit", image, "--no-wait", "--json").stderr == ""


@sqlite
def test_what_is_kept_from_language_models_is_marked_and_names_none(
    asked_elsewhere: Live, image: str
) -> None:
    asked_elsewhere.work()
    kept = run(asked_elsewhere.url, "submit", image, "--no-external")
    assert "llm.example" not in kept.stderr
    job_id = rows(run(asked_elsewhere.url, "submit", image, "--json"))[0]["id"]
    assert "llm.example" in run(asked_elsewhere.url, "ask", job_id, "Why?").stderr
    assert "llm.example" not in run(asked_elsewhere.url, "ask", job_id, "And why?", "--no-external").stderr
    read = select(JobRow.external).order_by(JobRow.id)
    assert list(asked_elsewhere.db.read(lambda session: session.scalars(read).all())) == [
        False, True, True, False
    ]  # fmt: skip
