"""The HTTP paths of the systems that MedQ replaces, as their clients use them."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from sqlalchemy import select
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse, encode_multipart

from api.services import Services
from api.waiting import Watch
from shared import audit
from shared.catalog import PIPELINES
from shared.database import Database
from shared.errors import ImageFailed
from shared.ids import new_id
from shared.job_types import NewArtifact
from shared.lifecycle import Event
from shared.tables import JobRow
from tests.api.driving import (
    FINDINGS,
    JPEG,
    ONE_DATABASE,
    Worker,
    assert_problem,
    blobs,
    jpeg,
    submitted,
    write_model,
)
from tests.api.people import Person, with_key

SCALP, XRAY = "scalp", "abdominal-xray"
OVERLAY = jpeg(2048, 1024, 40)
HOSTILE = [
    (b"", 422, "unreadable-image"),
    (b"GIF89a no picture of ours", 415, "unsupported-image"),
    (b"\xff\xd8\xff" + b"x" * 40, 422, "unreadable-image"),
    (JPEG + b"x" * 2**20, 413, "upload-too-large"),
]


def graded(*grades: int) -> list[dict[str, Any]]:
    return [
        {
            "condition": label.code,
            "name": label.en,
            "grade": grade,
            "grade_name": "x",
            "probabilities": [0.25, 0.25, 0.25, 0.25],
        }
        for label, grade in zip(PIPELINES[SCALP].labels, grades, strict=True)
    ]


def sent(client: FlaskClient, path: str, part: str, picture: bytes = JPEG, **fields: str) -> TestResponse:
    """A multipart request as the old clients make it."""
    boundary, body = encode_multipart(
        {**fields, part: FileStorage(io.BytesIO(picture), "scan.jpg")}, boundary="b"
    )
    return client.post(path, data=body, content_type=f"multipart/form-data; boundary={boundary}")


def asked(client: FlaskClient, **body: Any) -> TestResponse:
    """MLBIO's request."""
    return client.post("/predict", json={"image": base64.b64encode(JPEG).decode()} | body)


class Hand:
    """Plays the workers in the very moment in which a client waits, by their own functions."""

    def __init__(self, rooms: Services) -> None:
        self._rooms, self._worker = rooms, Worker(rooms.db)
        self.found: dict[str, Any] = {"findings": FINDINGS}
        self.warnings: list[dict[str, str]] = []
        self.explained = jpeg(450, 300)
        self.fails = self.away = False
        self.seen: list[JobRow] = []

    def wait(self, watch: Watch, seen: int, timeout_s: float) -> bool:
        if self.away:
            return False  # the time is up
        for row in rows(self._rooms.db):
            if row.status == "queued":
                self.seen.append(row)
                self.see(row)
        return True

    def see(self, row: JobRow) -> None:
        claim = self._worker.claim(row.id)
        if self.fails:
            self._worker.write(row.id, claim, Event.FAIL, error=ImageFailed())
        elif row.explain is None:
            self._worker.write(row.id, claim, Event.FINISH, values=self.found)
        else:
            self._worker.write(row.id, claim, Event.ADVANCE, values=self.found, stage="explain")
            artifacts = (self.stored(row, "explanation", self.explained),) if self.explained else ()
            values = {"warnings": self.warnings}
            claim = self._worker.claim(row.id, "explain")
            self._worker.write(row.id, claim, Event.FINISH, values=values, artifacts=artifacts)

    def stored(self, row: JobRow, name: str, data: bytes) -> NewArtifact:
        self._rooms.storage.put(f"{row.id}/{name}", data)
        return NewArtifact(name, "image/jpeg", "0" * 64, len(data))

    def outline(self, job_id: str) -> None:
        """The vision stage of an X-ray."""
        row = next(row for row in rows(self._rooms.db) if row.id == job_id)
        claim = self._worker.claim(job_id)
        overlay = (self.stored(row, "overlay", OVERLAY),)
        self._worker.write(
            job_id, claim, Event.ADVANCE, values={"segments": []}, artifacts=overlay, stage="answer"
        )

    def tell(self, job_id: str, text: str) -> None:
        answer = {
            "text": text,
            "source": "reference",
            "urgency": "routine",
            "next_step": "x",
            "prompt": PROMPT,
        }
        self._worker.write(
            job_id, self._worker.claim(job_id, "answer"), Event.FINISH, values={"answer": answer}
        )

    def fail(self, job_id: str) -> None:
        self._worker.write(job_id, self._worker.claim(job_id), Event.FAIL, error=ImageFailed())


PROMPT = {"name": "findings", "sha256": "0" * 64}


def rows(database: Database) -> list[JobRow]:
    return list(database.read(lambda session: session.scalars(select(JobRow).order_by(JobRow.id)).all()))


@pytest.fixture
def trained(tmp_path: Path) -> None:
    for pipeline in (SCALP, XRAY):
        write_model(tmp_path / "models" / pipeline, pipeline)


@pytest.fixture
def app(trained: None, start: Callable[..., Flask]) -> Flask:
    return start(compat="on", max_upload_bytes=2**20)


@pytest.fixture
def hand(rooms: Services, monkeypatch: pytest.MonkeyPatch) -> Hand:
    made = Hand(rooms)
    monkeypatch.setattr(Watch, "wait", lambda watch, seen, timeout_s: made.wait(watch, seen, timeout_s))
    return made


# The scalp service


@ONE_DATABASE
def test_a_scalp_is_graded_in_the_old_words(client: FlaskClient, hand: Hand) -> None:
    hand.found = {"grades": graded(2, 0, 1, 3, 2, 0)}
    response = sent(client, "/predict_all", "image")
    assert response.status_code == 200
    body = response.get_json()
    assert list(body) == [f"value_{number}" for number in range(1, 7)]
    assert body["value_1"] == [
        {
            "class_id": 1,
            "class_name": "미세각질",
            "pr_num": 2,
            "pr_name": "중증도",
            "answer": "미세각질의 상태가 중증도 입니다.",
        }
    ]
    assert [body[f"value_{n}"][0]["pr_name"] for n in range(2, 7)] == [
        "양호",
        "경증",
        "중증",
        "중증도",
        "양호",
    ]
    (row,) = hand.seen
    assert (row.pipeline, row.answered, row.lane) == (SCALP, False, "interactive")


@ONE_DATABASE
@pytest.mark.parametrize(("number", "name"), [("1", "미세각질"), ("6", "탈모")])
def test_one_condition_is_asked_for_by_its_number(
    client: FlaskClient, hand: Hand, number: str, name: str
) -> None:
    hand.found = {"grades": graded(0, 0, 0, 0, 0, 0)}
    (answer,) = sent(client, "/predict", "image", value_num=number).get_json().items()
    assert answer[0] == f"value_{number}"
    assert answer[1][0]["answer"] == f"{name}의 상태가 양호 입니다."


@ONE_DATABASE
@pytest.mark.parametrize("number", ["0", "7", "", "x", "1.0", "١", "1" * 5000])
def test_a_number_of_no_condition_is_refused(client: FlaskClient, rooms: Services, number: str) -> None:
    response = sent(client, "/predict", "image", value_num=number)
    assert_problem(response, 400, "invalid-request", "/value_num")
    assert blobs(rooms.settings) == []


# What all of them refuse


@ONE_DATABASE
@pytest.mark.parametrize(("picture", "status", "slug"), HOSTILE)
@pytest.mark.parametrize(
    ("path", "part"), [("/predict_all", "image"), ("/predict", "image"), ("/upload", "file")]
)
def test_what_is_no_picture_is_refused_and_nothing_kept(
    client: FlaskClient, rooms: Services, path: str, part: str, picture: bytes, status: int, slug: str
) -> None:
    fields = {"value_num": "1"} if path == "/predict" else {}
    assert_problem(sent(client, path, part, picture, **fields), status, slug)
    assert (blobs(rooms.settings), rows(rooms.db)) == ([], [])


@ONE_DATABASE
@pytest.mark.parametrize("path", ["/predict_all", "/predict", "/upload"])
def test_what_is_no_form_is_refused(client: FlaskClient, path: str) -> None:
    number = {"value_num": "1"}
    assert_problem(sent(client, path, "picture", **number), 400, "invalid-request", "/picture")
    text = client.post(path, data=b"x", content_type="text/plain")
    assert_problem(text, 400, "invalid-request")
    boundary, body = encode_multipart(number, boundary="b")
    empty = client.post(path, data=body, content_type=f"multipart/form-data; boundary={boundary}")
    assert_problem(empty, 400, "invalid-request", "/file" if path == "/upload" else "/image")
    assert client.get(path).status_code == 405


@ONE_DATABASE
@pytest.mark.parametrize(
    ("path", "part", "pipeline"), [("/predict_all", "image", SCALP), ("/upload", "file", XRAY)]
)
def test_without_weights_it_is_said_plainly(
    start: Callable[..., Flask], path: str, part: str, pipeline: str
) -> None:
    body = assert_problem(sent(start(compat="on").test_client(), path, part), 409, "pipeline-unavailable")
    assert f"make train PIPELINE={pipeline}" in body["detail"]


@ONE_DATABASE
def test_a_picture_that_fails_is_a_problem(client: FlaskClient, hand: Hand) -> None:
    hand.fails = True
    assert_problem(sent(client, "/predict_all", "image"), 409, "nothing-found")


@ONE_DATABASE
def test_a_job_that_nobody_waits_for_is_given_up(client: FlaskClient, hand: Hand, rooms: Services) -> None:
    hand.away = True
    response = sent(client, "/predict_all", "image")
    assert_problem(response, 503, "service-unavailable")
    assert response.headers["Retry-After"]
    assert [row.status for row in rows(rooms.db)] == ["canceled"]


@ONE_DATABASE
def test_they_are_not_there_unless_somebody_wants_them(
    client: FlaskClient, start: Callable[..., Flask]
) -> None:
    plain = start().test_client()
    for path in ("/predict", "/predict_all", "/upload", "/visionOutputs/x", "/llmOutputs/x"):
        method = "GET" if path.endswith("/x") else "POST"
        assert_problem(plain.open(path, method=method), 404, "not-found")
    assert client.get("/openapi.json").get_json() == plain.get("/openapi.json").get_json()


# The X-ray service


def test_an_x_ray_is_found_by_the_clients_own_id(client: FlaskClient, hand: Hand) -> None:
    answer = sent(client, "/upload", "file", id="patient-7", text="무엇이 보입니까?").get_json()
    assert answer == {
        "id": "patient-7",
        "file": "scan.jpg",
        "prompt": "무엇이 보입니까?",
        "message": "업로드 성공!",
    }
    (row,) = rows(client.application.extensions["medq"].db)
    assert (row.pipeline, row.answered, row.lang, row.custom_id) == (XRAY, True, "ko", "patient-7")
    assert outputs(client, "patient-7") == ("", "")
    hand.outline(row.id)
    shown, text = outputs(client, "patient-7")
    with Image.open(io.BytesIO(base64.b64decode(shown, validate=True))) as picture:
        assert (picture.format, picture.size) == ("PNG", (1024, 512))
    assert text == ""
    hand.tell(row.id, "기복증이 보입니다.")
    assert outputs(client, "patient-7") == (shown, "기복증이 보입니다.")
    assert outputs(client, row.id) == (shown, "기복증이 보입니다.")


def outputs(client: FlaskClient, own_id: str) -> tuple[str, str]:
    found = []
    for path in ("visionOutputs", "llmOutputs"):
        response = client.get(f"/{path}/{own_id}")
        assert response.status_code == 200, response.text
        body = response.get_json()
        assert list(body) == ["outputs"]
        (one,) = body["outputs"]
        found.append(one)
    return found[0], found[1]


def test_of_two_uploads_with_one_id_the_later_counts(client: FlaskClient, hand: Hand) -> None:
    for shade in (10, 200):
        sent(client, "/upload", "file", jpeg(shade=shade), id="7")
    first, second = (row.id for row in rows(client.application.extensions["medq"].db))
    hand.outline(first)
    assert outputs(client, "7") == ("", "")
    hand.outline(second)
    assert outputs(client, "7")[0]


@ONE_DATABASE
def test_an_x_ray_without_an_id_gets_one(client: FlaskClient, rooms: Services) -> None:
    answer = sent(client, "/upload", "file").get_json()
    assert (answer["id"], answer["prompt"]) == (rows(rooms.db)[0].id, "")
    assert rows(rooms.db)[0].lang == "ko"
    assert outputs(client, answer["id"]) == ("", "")


@ONE_DATABASE
@pytest.mark.parametrize("own_id", ["x/y", "../x", ".", "a b", "x" * 256, "\0", "?", "-", "<script>"])
def test_an_id_that_no_path_can_hold_is_refused(client: FlaskClient, rooms: Services, own_id: str) -> None:
    assert_problem(sent(client, "/upload", "file", id=own_id), 400, "invalid-request", "/id")
    assert rows(rooms.db) == []


@ONE_DATABASE
@pytest.mark.parametrize("own_id", ["7", "x" * 256, "%00", "%2e%2e", "%ff", "a%20b", "' OR 1=1 --", new_id()])
def test_an_id_that_nobody_knows_is_not_found(client: FlaskClient, own_id: str) -> None:
    for path in ("visionOutputs", "llmOutputs"):
        assert_problem(client.get(f"/{path}/{own_id}"), 404, "not-found")


@ONE_DATABASE
def test_another_pipelines_job_is_no_x_ray(client: FlaskClient) -> None:
    assert_problem(client.get(f"/visionOutputs/{submitted(client)['id']}"), 404, "not-found")


@ONE_DATABASE
def test_nobody_polls_for_ever_for_what_failed(client: FlaskClient, hand: Hand, rooms: Services) -> None:
    sent(client, "/upload", "file", id="7")
    hand.fail(rows(rooms.db)[0].id)
    for path in ("visionOutputs", "llmOutputs"):
        body = assert_problem(client.get(f"/{path}/7"), 409, "nothing-found")
        assert body["detail"] == ImageFailed().detail


@ONE_DATABASE
def test_what_was_erased_is_gone(client: FlaskClient, hand: Hand, rooms: Services) -> None:
    sent(client, "/upload", "file", id="7")
    hand.fail(rows(rooms.db)[0].id)
    client.delete(f"/v1/jobs/{rows(rooms.db)[0].id}")
    assert_problem(client.get("/visionOutputs/7"), 404, "not-found")


# MLBIO


def failed(response: TestResponse, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.mimetype == "application/json"
    body = response.get_json()
    assert list(body) == ["success", "error"]
    assert body["success"] is False
    assert int(response.headers["Content-Length"]) == len(response.data)
    error: str = body["error"]
    return error


@ONE_DATABASE
def test_a_picture_is_classified(client: FlaskClient, hand: Hand) -> None:
    answer = asked(client, precision="whatever, since nothing is explained").get_json()
    assert answer == {
        "success": True,
        "prediction": "Melanoma",
        "probability": 0.81,
        "explain": None,
        "image": None,
    }
    (row,) = hand.seen
    assert (row.pipeline, row.explain, row.answered, row.sha256 is not None) == ("skin", None, False, True)


@ONE_DATABASE
@pytest.mark.parametrize(
    ("precision", "level"),
    [
        ("Faible", "low"),
        ("LOW", "low"),
        ("moyenne", "medium"),
        ("Medium", "medium"),
        (None, "medium"),
        ("Importante", "high"),
        ("hIgH", "high"),
    ],
)
def test_an_explanation_is_made_of_pixels(
    client: FlaskClient, hand: Hand, precision: str | None, level: str
) -> None:
    answer = asked(client, explain=True, precision=precision).get_json()
    assert hand.seen[0].explain == level
    assert (len(answer["explain"]), len(answer["explain"][0])) == (149, 224)
    assert all(0 <= value <= 255 for value in answer["explain"][0][0])
    assert answer["image"] == answer["explain"]


@ONE_DATABASE
def test_an_explanation_that_failed_is_said_beside_the_finding(client: FlaskClient, hand: Hand) -> None:
    hand.explained = b""
    hand.warnings = [{"code": "explanation_failed", "detail": "There is no explanation."}]
    answer = asked(client, explain=True).get_json()
    assert (answer["success"], answer["prediction"], answer["explain"]) == (True, "Melanoma", None)
    assert answer["error"] == "There is no explanation."


@ONE_DATABASE
@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "image"),
        ({"image": None}, "image"),
        ({"image": "no base64 at all!"}, "base64"),
        ({"image": "흑색종"}, "base64"),
        ({"image": "QUJ"}, "base64"),
        ({"image": "x", "explain": "perhaps"}, "explain"),
        ({"image": "x", "explain": True, "precision": "extreme"}, "precision"),
        ([], ""),
        ("x", ""),
    ],
)
def test_a_wrong_body_fails_in_the_old_form(
    client: FlaskClient, rooms: Services, body: Any, word: str
) -> None:
    assert word in failed(client.post("/predict", json=body), 400)
    assert rows(rooms.db) == []


@ONE_DATABASE
@pytest.mark.parametrize(
    "text", [b"", b"{", b"[" * 100_000, b'{"image": "\\ud800"}', b"\xff", b'{"image": NaN}']
)
def test_what_is_no_json_fails_in_the_old_form(client: FlaskClient, text: bytes) -> None:
    failed(client.post("/predict", data=text, content_type="application/json"), 400)


@ONE_DATABASE
@pytest.mark.parametrize(("picture", "status"), [(picture, status) for picture, status, _ in HOSTILE])
def test_what_is_no_picture_fails_in_the_old_form(
    client: FlaskClient, rooms: Services, picture: bytes, status: int
) -> None:
    failed(asked(client, image=base64.b64encode(picture).decode()), status)
    assert (blobs(rooms.settings), rows(rooms.db)) == ([], [])


@ONE_DATABASE
def test_a_body_that_is_too_large_is_not_read(client: FlaskClient) -> None:
    failed(asked(client, image="QUJD" * 2**20), 413)


@ONE_DATABASE
def test_what_does_not_end_well_fails_in_the_old_form(
    client: FlaskClient, hand: Hand, rooms: Services
) -> None:
    hand.fails = True
    assert failed(asked(client), 409) == ImageFailed().detail
    hand.fails, hand.away = False, True
    assert "not looked at in time" in failed(asked(client), 503)
    assert [row.status for row in rows(rooms.db)] == ["failed", "canceled"]


@ONE_DATABASE
def test_base64_may_be_wrapped_and_a_body_may_say_more(client: FlaskClient, hand: Hand) -> None:
    wrapped = base64.encodebytes(JPEG).decode()
    assert asked(client, image=wrapped, mobile=True).get_json()["success"] is True


# Whose it is


@pytest.fixture
def guarded(trained: None, start: Callable[..., Flask]) -> Flask:
    return start(compat="on", auth="keys")


@ONE_DATABASE
def test_anothers_x_ray_is_answered_like_one_that_does_not_exist(guarded: Flask) -> None:
    anna, ben = Person(guarded, "anna"), Person(guarded, "ben")
    job_id = sent(anna.client, "/upload", "file").get_json()["id"]
    sent(anna.client, "/upload", "file", id="7")
    assert outputs(anna.client, "7") == outputs(anna.client, job_id) == ("", "")
    for path in ("visionOutputs", "llmOutputs"):
        for hers, nobodys in (("7", "8"), (job_id, new_id())):
            theirs = [ben.client.get(f"/{path}/{own_id}") for own_id in (hers, nobodys)]
            for response in theirs:
                assert_problem(response, 404, "not-found")
            assert theirs[0].text.replace(hers, "") == theirs[1].text.replace(nobodys, "")
    sent(ben.client, "/upload", "file", id="7")
    (bens,) = [row for row in rows(guarded.extensions["medq"].db) if row.owner == "ben"]
    assert bens.custom_id == "7"


@ONE_DATABASE
def test_every_one_of_them_asks_for_a_key_and_a_scope(guarded: Flask) -> None:
    reader = Person(guarded, "anna", ("read",))
    writer = Person(guarded, "anna", ("submit",))
    nobody = with_key(guarded, "mq_" + "x" * 43)
    for path in ("/predict_all", "/predict", "/upload"):
        assert_problem(sent(nobody, path, "image"), 401, "unauthorized")
        assert_problem(sent(reader.client, path, "image"), 403, "forbidden")
    for path in ("/visionOutputs/7", "/llmOutputs/7"):
        assert_problem(nobody.get(path), 401, "unauthorized")
        assert_problem(writer.client.get(path), 403, "forbidden")
    assert failed(asked(nobody), 401)
    assert asked(nobody).headers["WWW-Authenticate"].startswith("Bearer")


@ONE_DATABASE
def test_the_audit_log_names_who_submitted_and_who_read(guarded: Flask, database: Database) -> None:
    anna = Person(guarded, "anna")
    job_id = sent(anna.client, "/upload", "file", id="7").get_json()["id"] and rows(database)[0].id
    outputs(anna.client, "7")
    found = [(row.actor, row.action) for row in reversed(audit.entries(database, job_id, 100))]
    assert found == [(anna.key_id, "submit"), (anna.key_id, "read")]


@ONE_DATABASE
def test_a_full_queue_refuses_them_too(trained: None, start: Callable[..., Flask]) -> None:
    client = start(compat="on", max_waiting=1).test_client()
    assert sent(client, "/upload", "file").status_code == 200
    assert_problem(sent(client, "/upload", "file"), 429, "too-many-requests")
    assert "queue is full" in failed(asked(client), 429)
    assert json.loads(asked(client).data)["success"] is False
