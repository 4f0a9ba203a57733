"""The commands for batches against the real app: what people and machines see, and the exit codes."""

import csv
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from api import cli
from api.client import Client
from shared.settings import Settings
from shared.tables import JobRow
from tests.api.batching import pictures, zipped
from tests.api.driving import ONE_DATABASE
from tests.api.live import Live, models

Medq = Callable[..., Result]
pytestmark = ONE_DATABASE
LABELS = "filename,custom_id,label\n000.jpg,=1+1,mel\n001.jpg,b,nv\n"


@pytest.fixture
def live(settings: Callable[..., Settings], tmp_path: Path) -> Iterator[Live]:
    with capture_logs():  # else the server's log stands in what the command printed: they share a process
        server = Live(settings(models_dir=str(models(tmp_path / "models"))))
        yield server
        server.close()


@pytest.fixture
def medq(live: Live, tmp_path: Path) -> Medq:
    env = {"MEDQ_URL": live.url, "XDG_CONFIG_HOME": str(tmp_path / "config")}
    return lambda *words, **more: CliRunner().invoke(cli.app, [str(word) for word in words], env=env, **more)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.zip"
    path.write_bytes(zipped(pictures(2) | {"manifest.csv": LABELS.encode()}))
    return path


def rows(result: Result) -> list[dict[str, Any]]:
    return [json.loads(row) for row in result.stdout.splitlines()]


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))


def test_an_archive_is_sent_followed_and_fetched(medq: Medq, live: Live, study: Path, tmp_path: Path) -> None:
    live.work()
    shown = medq("batch", study, "-o", tmp_path / "out.csv", "--age", 45)
    assert shown.exit_code == 0, shown.stderr
    for words in ("study.zip", "completed", "2 succeeded of 2", "2 labelled pictures", "accuracy 50.0 %"):
        assert words in shown.stdout, words
    found = table(tmp_path / "out.csv")
    assert [(row["custom_id"], row["age"], row["finding"]) for row in found] == [
        ("'=1+1", "45", "mel"),
        ("b", "45", "mel"),
    ]
    assert (
        not (tmp_path / "config/medq/uploads.json").exists()
        or json.loads((tmp_path / "config/medq/uploads.json").read_text()) == {}
    )


def test_what_became_no_job_is_shown_and_fails(medq: Medq, live: Live, tmp_path: Path) -> None:
    live.work()
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, data in (pictures(2) | {f"{i:02d}\x1b[31m.txt": b"no picture" for i in range(12)}).items():
        (folder / name).write_bytes(data)
    shown = medq("batch", folder)
    assert shown.exit_code == 1
    assert "2 succeeded, 12 rejected of 14" in shown.stdout
    assert "and 2 more" in shown.stdout
    assert "\x1b" not in shown.stdout


def test_failed_jobs_fail_the_command_and_run_again(
    medq: Medq, live: Live, study: Path, tmp_path: Path
) -> None:
    live.error = True
    live.work()
    shown = medq("batch", study, "--json")
    (failed,) = rows(shown)
    assert (shown.exit_code, failed["counts"]["failed"]) == (1, 2)
    live.error = False
    again = medq("rerun", failed["id"], "--json")
    (batch,) = rows(again)
    assert (again.exit_code, batch["counts"]["succeeded"], batch["rerun_of"]) == (0, 2, failed["id"])
    out = tmp_path / "out.csv"
    assert medq("results", batch["id"], "-o", out, "--against", failed["id"], "--bom").exit_code == 0
    assert out.read_bytes().startswith(b"\xef\xbb\xbf")
    assert {row["old_status"] for row in table(out)} == {"failed"}
    everything = rows(medq("rerun", batch["id"], "--all", "--json"))[0]
    assert (everything["counts"]["succeeded"], everything["rerun_only"]) == (2, "all")


def test_a_batch_that_nobody_waits_for(medq: Medq, live: Live, study: Path, tmp_path: Path) -> None:
    started = medq("batch", study, "--no-wait")
    batch_id = started.stdout.strip()
    assert (started.exit_code, started.stdout.count("\n")) == (0, 1)
    assert batch_id in medq("batches").stdout
    assert [batch["id"] for batch in rows(medq("batches", "--json"))] == [batch_id]
    partial = medq("results", batch_id, "-o", tmp_path / "out.csv")
    assert partial.exit_code == 0
    assert "not finished" in partial.stderr
    live.work()
    watched = medq("watch", batch_id)
    assert (watched.exit_code, "2 succeeded" in watched.stdout) == (0, True)
    assert medq("cancel", batch_id).exit_code == 1


def test_a_batch_is_canceled(medq: Medq, study: Path) -> None:
    batch_id = medq("batch", study, "--no-wait").stdout.strip()
    assert "canceled" in medq("cancel", batch_id).stdout
    assert "canceled" in medq("batches").stdout


def test_a_zip_of_results_holds_pictures_when_asked_for(
    medq: Medq, live: Live, study: Path, tmp_path: Path
) -> None:
    live.work()
    batch_id = rows(medq("batch", study, "--json"))[0]["id"]
    out = tmp_path / "out.zip"
    assert medq("results", batch_id, "-o", out, "--images").exit_code == 0
    with zipfile.ZipFile(out) as archive:
        assert len(archive.namelist()) == 4


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("batch", "missing.zip"), 2),
        (("batch", "{empty}"), 2),
        (("batch", "{study}", "-o", "{empty}/out.xlsx"), 2),
        (("batch", "{study}", "-o", "{empty}/no/out.csv"), 2),
        (("batch", "{text}"), 1),
        (("batch", "{study}", "--pipeline", "scalp"), 1),
        (("batch", "{study}", "--manifest", "{text}"), 1),
        (("results", "nothing", "-o", "{empty}/out.csv"), 1),
        (("watch", "nothing"), 1),
    ],
)
def test_bad_usage_and_refusals(
    medq: Medq, study: Path, tmp_path: Path, words: tuple[str, ...], code: int
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("no archive")
    names = {"study": study, "empty": tmp_path / "empty", "text": tmp_path / "text.zip"}
    shown = medq(*(word.format(**names) for word in words))
    assert shown.exit_code == code, (shown.stdout, shown.stderr)
    assert shown.stderr
    assert "Traceback" not in shown.stderr


def test_an_upload_that_broke_off_goes_on_at_the_next_call(
    medq: Medq, live: Live, study: Path, tmp_path: Path
) -> None:
    """The first call brings all bytes and is refused; the second finds them there."""
    assert medq("batch", study, "--pipeline", "scalp").exit_code == 1
    with Client(live.url) as client:
        uploads = json.loads((tmp_path / "config/medq/uploads.json").read_text())
        (url,) = uploads.values()
        assert client.send("GET", url).json()["offset"] == study.stat().st_size
    assert medq("batch", study, "--no-wait").stdout.strip() == url.rpartition("/")[2]


def test_an_archive_kept_from_language_models_says_so_of_every_entry(
    medq: Medq, live: Live, study: Path
) -> None:
    live.work()
    assert medq("batch", study, "--no-external").exit_code == 0
    read = select(JobRow.external)
    assert list(live.db.read(lambda session: session.scalars(read).all())) == [False, False]
