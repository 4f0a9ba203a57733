"""Results of a batch as files: every column, the archive's order, hostile texts, partial and broken answers."""

import csv
import io
import json
import tracemalloc
import zipfile
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from api.results import csv_of
from api.services import Services
from api.table import Columns, defused, table
from shared.batches import NewRejected
from shared.database import Database
from shared.errors import ImageFailed
from shared.job_types import NewArtifact
from tests.api.batching import Hands, accepted, findings, post_batch, zipped
from tests.api.driving import ANSWER, ONE_DATABASE, assert_problem, jpeg

ZIP = zipped({})
HOSTILE = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0", '=HYPERLINK("http://x","y")']


@pytest.fixture
def hands(rooms: Services) -> Hands:
    return Hands(rooms)


def read_csv(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def fetch(client: FlaskClient, batch: dict[str, Any], kind: str = "csv", query: str = "") -> bytes:
    with client.get(f"/v1/batches/{batch['id']}/results.{kind}{query}") as response:
        assert response.status_code == 200, response.text
        assert response.headers["Content-Disposition"] == f'attachment; filename="{batch["id"]}.{kind}"'
        data: bytes = response.data
    return data


def test_every_job_is_a_row_in_the_archives_order(client: FlaskClient, hands: Hands) -> None:
    batch = accepted(client, ZIP)
    ids = hands.read(
        batch["id"],
        [
            {"custom_id": "p-1", "true_label": "mel", "question": 'Is it "bad";\nreally?', "age": 45},
            {"entry": 7},
            {"entry": 3},
        ],
    )
    model = {"name": "skin", "version": "v1", "sha256": "0" * 64}
    hands.see(ids[:1], lambda i: {"findings": findings(mel=0.75, nv=0.25), "answer": ANSWER, "model": model})
    hands.see(ids[1:2], lambda i: {"error": ImageFailed("Damaged.")})
    rows = read_csv(fetch(client, batch))
    assert [row["job_id"] for row in rows] == [ids[0], ids[2], ids[1]]
    first, waiting, failed = rows
    assert (first["filename"], first["custom_id"], first["true_label"]) == (
        "pictures/00000.jpg",
        "p-1",
        "mel",
    )
    assert (first["status"], first["finding"], float(first["probability"])) == ("succeeded", "mel", 0.75)
    assert (float(first["p_mel"]), float(first["p_nv"]), first["p_df"]) == (0.75, 0.25, "")
    assert {name for name in first if name.startswith("p_")} == {
        "p_akiec", "p_bcc", "p_bkl", "p_df", "p_mel", "p_nv", "p_vasc",
    }  # fmt: skip
    assert (first["above_threshold"], first["model"], first["age"]) == ("mel", "v1", "45")
    assert (first["answer"], first["urgency"]) == (ANSWER["text"], "within_days")
    assert first["question"] == 'Is it "bad";\nreally?'
    assert (waiting["status"], waiting["finding"], waiting["p_mel"]) == ("queued", "", "")
    assert (failed["status"], failed["error"], failed["error_detail"]) == (
        "failed",
        "image-failed",
        "Damaged.",
    )


@ONE_DATABASE
def test_results_of_an_archive_that_is_not_read_yet_are_a_header(client: FlaskClient) -> None:
    batch = accepted(client, ZIP)
    assert read_csv(fetch(client, batch)) == []
    assert fetch(client, batch).startswith(b'"entry","filename"')
    assert fetch(client, batch, "jsonl") == b""


@ONE_DATABASE
def test_a_byte_order_mark_comes_when_asked_for(client: FlaskClient, hands: Hands) -> None:
    batch = accepted(client, ZIP)
    hands.read(batch["id"], [{"custom_id": "흑색종"}])
    plain, marked = fetch(client, batch), fetch(client, batch, query="?bom=1")
    assert marked == b"\xef\xbb\xbf" + plain
    assert read_csv(plain)[0]["custom_id"] == "흑색종"
    assert_problem(client.get(f"/v1/batches/{batch['id']}/results.csv?bom=x"), 400, "invalid-request", "/bom")


@ONE_DATABASE
@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_is_taken_for_a_formula(client: FlaskClient, hands: Hands, text: str) -> None:
    batch = accepted(client, ZIP)
    bad = NewRejected(1, text, "unsupported-image", text)
    (id,) = hands.read(batch["id"], [{"custom_id": text, "entry_name": text, "question": text}], [bad])
    hands.see([id], lambda i: {"findings": findings(mel=1.0), "answer": ANSWER | {"text": text}})
    files = zipfile.ZipFile(io.BytesIO(fetch(client, batch, "zip")))
    (row,) = read_csv(files.read("results.csv"))
    assert {row[name] for name in ("custom_id", "filename", "question", "answer")} == {"'" + text}
    (rejected,) = read_csv(files.read("rejected.csv"))
    assert (rejected["filename"], rejected["detail"]) == ("'" + text, "'" + text)
    assert json.loads(fetch(client, batch, "jsonl"))["custom_id"] == text


def test_only_texts_are_defused() -> None:
    assert [defused(value) for value in (-0.5, None, "a=1", "", "'=1", "\uff1d1")] == [
        -0.5, None, "a=1", "", "'=1", "'\uff1d1",
    ]  # fmt: skip


@given(
    st.lists(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=2, max_size=2))
)
@settings(suppress_health_check=[HealthCheck.differing_executors], max_examples=200)
def test_any_text_survives_the_table(rows: list[list[str]]) -> None:
    data = b"".join(table(["a", "b"], rows)).decode()
    found = list(csv.reader(io.StringIO(data, newline="")))
    assert found == [["a", "b"], *[[defused(cell) for cell in row] for row in rows]]


def test_jsonl_holds_every_job_as_get_shows_it(client: FlaskClient, hands: Hands) -> None:
    batch = accepted(client, ZIP)
    ids = hands.read(batch["id"], [{"custom_id": "a"}, {}])
    hands.see(ids, lambda i: {"findings": findings(mel=1.0), "answer": ANSWER})
    lines = [json.loads(line) for line in fetch(client, batch, "jsonl").splitlines()]
    assert lines == [client.get(f"/v1/jobs/{id}").get_json() for id in ids]


def test_the_zip_holds_tables_and_artifacts_under_names_of_ours(
    client: FlaskClient, hands: Hands, rooms: Services
) -> None:
    batch = accepted(client, ZIP)
    hostile = {"entry_name": "../../etc/passwd", "filename": "passwd"}
    image = NewArtifact("image", "image/jpeg", "0" * 64, 5)
    bad = NewRejected(2, "../x", "unsafe-name", "No.")
    ids = hands.read(batch["id"], [hostile | {"artifacts": (image,)}, {}], [bad])
    for name, data in (("mask", b"png" * 1000), ("image", b"image")):
        rooms.storage.put(f"{ids[0]}/{name}", data)
    mask = NewArtifact("mask", "image/png", "0" * 64, 3000)
    gone = NewArtifact("overlay", "image/png", "0" * 64, 3)
    hands.see(ids[:1], lambda i: {"findings": findings(mel=1.0), "artifacts": (mask, gone)})
    files = zipfile.ZipFile(io.BytesIO(fetch(client, batch, "zip")))
    assert files.testzip() is None
    prefix = f"artifacts/000000-{ids[0]}"
    assert files.namelist() == ["results.csv", "rejected.csv", f"{prefix}-mask.png", f"{prefix}-overlay.png"]
    assert files.read(f"{prefix}-mask.png") == b"png" * 1000
    assert files.read(f"{prefix}-overlay.png") == b""
    assert files.read("results.csv") == fetch(client, batch)
    assert read_csv(files.read("rejected.csv"))[0]["problem"] == "unsafe-name"
    with_images = zipfile.ZipFile(io.BytesIO(fetch(client, batch, "zip", "?images=1")))
    assert with_images.read(f"{prefix}-image.jpg") == b"image"


def test_results_against_another_batch_show_old_findings_and_difference(
    client: FlaskClient, hands: Hands
) -> None:
    old, new = accepted(client, ZIP), accepted(client, ZIP)
    before = hands.read(old["id"], [{}] * 4)
    after = hands.read(new["id"], [{}, {}, {"sha256": "f" * 64}])
    hands.see(before, lambda i: {"findings": findings(mel=0.5 + i / 10, nv=0.5 - i / 10)})
    hands.see(
        after, lambda i: {"findings": findings(mel=0.25, nv=0.75) if i else findings(mel=0.75, nv=0.25)}
    )
    rows = read_csv(fetch(client, new, query=f"?against={old['id']}"))
    assert [row["old_job_id"] for row in rows] == [before[0], before[1], ""]
    assert [row["changed"] for row in rows] == ["false", "true", ""]
    assert (rows[1]["old_finding"], float(rows[1]["old_probability"])) == ("mel", 0.6)
    assert float(rows[0]["diff_p_mel"]) == 0.25
    assert float(rows[1]["diff_p_mel"]) == pytest.approx(-0.35)
    assert (float(rows[0]["old_p_nv"]), rows[0]["old_p_df"], rows[2]["old_p_nv"]) == (0.5, "", "")
    in_zip = zipfile.ZipFile(io.BytesIO(fetch(client, new, "zip", f"?against={old['id']}")))
    assert read_csv(in_zip.read("results.csv")) == rows
    url = f"/v1/batches/{new['id']}/results.csv?against="
    assert_problem(client.get(url + "x"), 400, "invalid-request", "/against")
    assert_problem(client.get(url + "0" * 8 + "-0000" * 3 + "-" + "0" * 12), 404, "not-found")


def test_columns_are_those_of_the_pipelines_in_the_batch() -> None:
    found = Columns.of(["skin", "scalp"])
    assert set(found.header) >= {"p_mel", "grade_dandruff"}
    row = type(
        "Row", (), dict.fromkeys(
            ("entry", "entry_name", "filename", "custom_id", "id", "pipeline", "true_label", "findings", "segments",
             "answer", "warnings", "question", "lang", "age", "sex", "site", "model", "error_slug", "error_detail",
             "started_at")
        ) | {"status": "succeeded", "grades": [{"condition": "dandruff", "grade": 2}]},
    )()  # fmt: skip
    assert dict(zip(found.header, found.cells(row), strict=True))["grade_dandruff"] == 2


@ONE_DATABASE
def test_an_answer_that_breaks_off_says_so(
    client: FlaskClient, hands: Hands, rooms: Services, database: Database
) -> None:
    batch = accepted(client, ZIP)
    hands.read(batch["id"], [{}] * 1200)
    lines = csv_of(rooms, batch["id"])
    got = next(lines)
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE jobs RENAME TO hidden")
    got += b"".join(lines)
    rows = read_csv(got)
    assert rows[-1]["entry"] == "incomplete"
    assert 0 < len(rows) < 1200
    with pytest.raises(OperationalError):
        next(csv_of(rooms, batch["id"]))


@ONE_DATABASE
def test_memory_does_not_grow_with_the_batch(client: FlaskClient, hands: Hands, rooms: Services) -> None:
    """20,000 jobs with answers of a few kB each: some 100 MB of JSON lines."""
    batch = accepted(client, ZIP)
    ids = hands.read(batch["id"], [{}] * 20_000)
    values = {"findings": findings(mel=0.75, nv=0.25), "answer": ANSWER | {"text": "Long. " * 500}}
    hands.see(ids, lambda i: dict(values))
    peaks = {}
    for kind in ("csv", "jsonl", "zip"):
        tracemalloc.start()
        response = client.get(f"/v1/batches/{batch['id']}/results.{kind}", buffered=False)
        size = sum(len(chunk) for chunk in response.iter_encoded())
        peaks[kind] = (size, tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        response.close()
    assert peaks["csv"][0] > 60e6
    assert all(peak < 20e6 for _, peak in peaks.values()), peaks


def test_names_in_archives_reach_no_header(client: FlaskClient) -> None:
    hostile = 'a"\r\nX-Evil: 1.zip'
    response = client.post(
        "/v1/batches", query_string={"filename": hostile}, data=ZIP, content_type="application/zip"
    )
    batch = response.get_json()
    assert "X-Evil" not in response.headers
    assert batch["filename"] == 'a"X-Evil: 1.zip'
    fetch(client, batch)
    assert post_batch(client, ZIP, question="<script>").get_json()["defaults"]["question"] == "<script>"


NAMES = [
    'a"\r\nX-Evil: 1.jpg',
    "<script>alert(1)</script>.jpg",
    "=cmd|' /C calc'!A0.jpg",
    "\u202egpj.exe.jpg",
    "\x1b[2J.jpg",
    "흑색종 \U0001f600;,\t.jpg",
    "x" * 300 + ".jpg",
]


def test_names_of_entries_stay_texts(client: FlaskClient, hands: Hands) -> None:
    """From a hostile archive through the archive worker to every place where a name is shown."""
    batch = accepted(client, zipped({name: jpeg(shade=i) for i, name in enumerate(NAMES)}))
    hands.work(batch["id"])
    listed = client.get(batch["urls"]["jobs"])
    jobs, rejected = listed.get_json()["items"], client.get(batch["urls"]["rejected"]).get_json()["items"]
    assert len(jobs) + len(rejected) == len(NAMES)
    assert len(jobs) >= 4
    table = read_csv(fetch(client, batch))
    assert [row["job_id"] for row in table] == [job["id"] for job in jobs[::-1]]
    assert not [row for row in table if row["filename"].startswith(("=", "+", "-", "@", "\t", "\r"))]
    files = zipfile.ZipFile(io.BytesIO(fetch(client, batch, "zip", "?images=1")))
    assert {name.split("/")[0] for name in files.namelist()} == {"results.csv", "rejected.csv", "artifacts"}
    assert all(name.isascii() for name in files.namelist())
    for job in jobs:
        image = client.get(job["artifacts"]["image"])
        assert f'filename="{job["id"]}-image.jpeg"' in image.headers["Content-Disposition"]
        assert "X-Evil" not in image.headers
        image.close()
    for response in (listed, client.get(batch["urls"]["results_jsonl"])):
        assert response.mimetype in ("application/json", "application/jsonl")
        assert response.headers["X-Content-Type-Options"] == "nosniff"
