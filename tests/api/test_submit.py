import hashlib
import io
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image

from api.services import Services
from shared.database import Database
from shared.tables import JobRow
from tests.api.driving import JPEG, ONE_DATABASE, assert_problem, blobs, jpeg, post, submitted

FIELDS = {
    "pipeline": "skin",
    "question": "Is this dangerous?",
    "lang": "en",
    "age": "45",
    "sex": "female",
    "site": "back",
    "explain": "none",
    "expires_in_s": "3600",
    "metadata": '{"visit": 7, "tags": ["a", null, 1.5, true]}',
    "answer": "always",
    "external": "false",
}


def test_a_submit_answers_with_the_job_and_where_it_is(client: FlaskClient) -> None:
    response = post(client, **FIELDS)
    assert response.status_code == 202
    job = response.get_json()
    assert response.headers["Location"] == f"/v1/jobs/{job['id']}" == job["urls"]["self"]
    assert response.headers["ETag"] == '"1"'
    assert response.headers["Retry-After"]
    assert (job["status"], job["stage"], job["position"], job["progress"]) == ("queued", "vision", 1, 0.0)
    assert (job["age"], job["sex"], job["site"], job["lang"]) == (45, "female", "back", "en")
    assert job["metadata"] == {"visit": 7, "tags": ["a", None, 1.5, True]}
    assert job["question"] == "Is this dangerous?"
    assert job["input"] == {
        "filename": "mole.jpg",
        "media_type": "image/jpeg",
        "sha256": hashlib.sha256(JPEG).hexdigest(),
        "size_bytes": len(JPEG),
        "width": 60,
        "height": 45,
        "frame": None,
    }
    assert list(job["artifacts"]) == ["image"]
    for unknown in ("findings", "grades", "segments", "answer", "error", "model", "started_at", "eta_s"):
        assert job[unknown] is None


def test_what_was_asked_reaches_the_row(client: FlaskClient, database: Database) -> None:
    job = submitted(client, **FIELDS)
    row = database.read(lambda session: session.get(JobRow, job["id"]))
    assert row is not None
    assert (row.answered, row.external, row.lane) == (True, False, "interactive")
    assert row.deadline_at == row.created_at + 3_600_000_000


def test_the_id_reaches_the_broker(client: FlaskClient, broker: Any) -> None:
    submitted(client)
    with broker.client() as redis:
        assert redis.llen("vision.skin.interactive") == 1


def test_only_the_picture_is_needed(client: FlaskClient, database: Database) -> None:
    job = submitted(client)
    assert (job["pipeline"], job["question"], job["lang"], job["age"]) == ("skin", "", "en", None)
    row = database.read(lambda session: session.get(JobRow, job["id"]))
    assert row is not None
    assert row.answered


def test_never_answered_means_vision_only(client: FlaskClient, database: Database) -> None:
    job = submitted(client, answer="never")
    row = database.read(lambda session: session.get(JobRow, job["id"]))
    assert row is not None
    assert not row.answered


@pytest.mark.parametrize(
    ("question", "lang"),
    [("Is it bad?", "en"), ("이것은 위험한가요?", "ko"), ("Est-ce que c'est grave ?", "fr")],
)
def test_the_language_is_the_questions(client: FlaskClient, question: str, lang: str) -> None:
    assert submitted(client, question=question)["lang"] == lang


def test_empty_fields_count_as_not_given(client: FlaskClient) -> None:
    job = submitted(client, age="", sex="", site="", lang="", metadata="", webhook_url="", expires_in_s="")
    assert (job["age"], job["sex"], job["metadata"]) == (None, None, None)


@pytest.mark.parametrize(
    "text", ["123", '"quoted"', "true", "null", "[" * 3999, "1e400", '{"a": 1}', " \r\n\t "]
)
def test_a_question_that_looks_like_json_stays_as_it_was_sent(client: FlaskClient, text: str) -> None:
    assert submitted(client, question=text)["question"] == text


def test_the_longest_question_is_accepted(client: FlaskClient) -> None:
    assert len(submitted(client, question="각" * 4000)["question"]) == 4000


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("question", "x" * 4001),
        ("question", "a\0b"),
        ("question", "x" * 100_000),
        ("pipeline", "tarot"),
        ("pipeline", "Skin"),
        ("pipeline", "skin "),
        ("lang", "de"),
        ("lang", "EN"),
        *[("age", text) for text in ("-1", "121", "45.0", "4_5", "٤٥", "forty", "1e1", " 45", "+45", "NaN")],
        ("age", "9" * 5000),
        ("sex", "F"),
        ("sex", "1"),
        ("site", "moon"),
        ("site", "crown"),
        ("explain", "yes"),
        *[("frame", text) for text in ("0", "-1", "first")],
        ("webhook_url", "https://example.org/hook"),
        ("webhook_events", "all"),
        *[("expires_in_s", text) for text in ("0", "-1", "inf", "nan", "soon", "1e3", "2592001")],
        *[("metadata", text) for text in ("1", "[]", "null", '"a"', "{", "{'a': 1}", '{"a": NaN}')],
        ("metadata", '{"a": 1, "a": 2}'),
        ("metadata", '{"a": "\\ud800"}'),
        ("metadata", '{"\\u0000": 1}'),
        ("metadata", '{"a": 1e400}'),
        ("metadata", '{"a": 18446744073709551616}'),
        ("metadata", '{"a": "' + "x" * 2048 + '"}'),
        ("metadata", '{"a":' + "[" * 9 + "]" * 9 + "}"),
        ("metadata", '{"a":' + "[" * 2000),
        ("metadata", '{"a":' + "[" * 1000 + "]" * 1000 + "}"),
        ("answer", "maybe"),
        ("external", "no"),
        ("external", "True"),
        ("external", "0"),
        ("colour", "red"),
        ("a/b~c", "red"),
        ("batch_id", "x"),
    ],
)
@ONE_DATABASE
def test_a_wrong_value_is_refused_by_name(
    client: FlaskClient, rooms: Services, field: str, value: str
) -> None:
    pointer = "/" + field.replace("~", "~0").replace("/", "~1")
    body = assert_problem(post(client, **{field: value}), 400, "invalid-request")
    assert all(error["pointer"].startswith(pointer) for error in body["errors"])
    assert not blobs(rooms.settings)


@ONE_DATABASE
def test_all_wrong_fields_are_named_at_once(client: FlaskClient) -> None:
    body = assert_problem(post(client, age="x", sex="y", image=None), 400, "invalid-request")
    assert {error["pointer"] for error in body["errors"]} == {"/age", "/sex", "/image"}


@ONE_DATABASE
class TestBodies:
    """Bodies as no well-meaning client sends them."""

    def send(
        self, client: FlaskClient, body: bytes, content_type: str = "multipart/form-data; boundary=b"
    ) -> Any:
        return client.post("/v1/jobs", data=body, content_type=content_type)

    def part(self, disposition: str, content: bytes) -> bytes:
        head = f"--b\r\nContent-Disposition: form-data; {disposition}\r\n\r\n"
        return head.encode() + content + b"\r\n"

    def image(self) -> bytes:
        return self.part('name="image"; filename="a.jpg"', JPEG)

    def test_the_helper_makes_a_good_body(self, client: FlaskClient) -> None:
        assert self.send(client, self.image() + b"--b--\r\n").status_code == 202

    @pytest.mark.parametrize(
        "content_type",
        [
            "",
            "application/json",
            "text/plain",
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=" + "b" * 5000,
            "multipart/mixed; boundary=b",
        ],
    )
    def test_another_media_type_is_refused(self, client: FlaskClient, content_type: str) -> None:
        assert_problem(self.send(client, self.image() + b"--b--", content_type), 400, "invalid-request")

    def test_no_body_is_refused(self, client: FlaskClient) -> None:
        assert_problem(client.post("/v1/jobs"), 400, "invalid-request")

    @pytest.mark.parametrize("cut", [0, 1, 20, 70, 300, -3, -5])
    def test_a_truncated_body_is_refused(self, client: FlaskClient, cut: int) -> None:
        body = self.image() + b"--b--"
        assert_problem(self.send(client, body[:cut]), 400, "invalid-request")

    def test_a_field_given_twice_is_refused(self, client: FlaskClient) -> None:
        body = self.part('name="age"', b"4") * 2 + self.image() + b"--b--"
        assert_problem(self.send(client, body), 400, "invalid-request", "/age")

    def test_a_picture_given_twice_is_refused(self, client: FlaskClient) -> None:
        assert_problem(self.send(client, self.image() * 2 + b"--b--"), 400, "invalid-request", "/image")

    def test_a_picture_sent_as_text_is_refused(self, client: FlaskClient) -> None:
        body = self.part('name="image"', b"hello") + b"--b--"
        assert_problem(self.send(client, body), 400, "invalid-request", "/image")

    @pytest.mark.parametrize("name", ["question", "age", "metadata", "other"])
    def test_a_text_sent_as_a_file_is_refused(self, client: FlaskClient, name: str) -> None:
        body = self.part(f'name="{name}"; filename="x"', b"1") + self.image() + b"--b--"
        assert_problem(self.send(client, body), 400, "invalid-request", f"/{name}")

    @pytest.mark.parametrize(
        "content", ["\ud800".encode("utf-8", "surrogatepass"), b"\xff\xfe", b"caf\xe9", b"\xc0\x80"]
    )
    @pytest.mark.parametrize("name", ["question", "site", "metadata", "pipeline"])
    def test_text_that_is_not_utf_8_is_refused(self, client: FlaskClient, name: str, content: bytes) -> None:
        body = self.part(f'name="{name}"', content) + self.image() + b"--b--"
        assert_problem(self.send(client, body), 400, "invalid-request", f"/{name}")

    @pytest.mark.parametrize("head", ['filename="a"', "", 'name=""', 'name="\udcff"'])
    def test_a_part_without_a_proper_name_is_refused(self, client: FlaskClient, head: str) -> None:
        line = f"--b\r\nContent-Disposition: form-data; {head}\r\n\r\nx\r\n--b--"
        assert_problem(self.send(client, line.encode("utf-8", "surrogateescape")), 400, "invalid-request")

    def test_a_part_without_a_disposition_is_refused(self, client: FlaskClient) -> None:
        assert_problem(self.send(client, b"--b\r\nX: y\r\n\r\nx\r\n--b--"), 400, "invalid-request")

    def test_a_thousand_parts_are_refused(self, client: FlaskClient) -> None:
        body = b"".join(self.part(f'name="f{i}"', b"") for i in range(1000)) + b"--b--"
        assert 400 <= self.send(client, body).status_code < 500

    def test_a_body_over_the_limit_is_refused_unread(self, client: FlaskClient, rooms: Services) -> None:
        body = self.part('name="image"; filename="a"', b"x" * (rooms.settings.max_upload_bytes + 600_000))
        assert_problem(self.send(client, body + b"--b--"), 413, "upload-too-large")

    def test_a_body_without_a_length_is_counted_while_it_is_read(
        self, client: FlaskClient, rooms: Services
    ) -> None:
        body = self.part('name="image"; filename="a"', b"x" * (rooms.settings.max_upload_bytes + 600_000))
        response = client.post(
            "/v1/jobs",
            input_stream=io.BytesIO(body + b"--b--"),
            content_type="multipart/form-data; boundary=b",
            environ_overrides={"wsgi.input_terminated": True},
        )
        assert_problem(response, 413, "upload-too-large")

    def test_a_picture_over_the_limit_is_refused(self, client: FlaskClient, rooms: Services) -> None:
        picture = JPEG + b"x" * rooms.settings.max_upload_bytes
        assert_problem(post(client, picture), 413, "upload-too-large")


def png(**options: Any) -> bytes:
    out = io.BytesIO()
    Image.new(options.pop("mode", "RGB"), options.pop("size", (4, 3))).save(out, "PNG", **options)
    return out.getvalue()


BOMB = png(size=(1, 1))[:16] + (100_000).to_bytes(4, "big") * 2 + png(size=(1, 1))[24:]


@pytest.mark.parametrize(
    ("picture", "status", "slug"),
    [
        (b"", 422, "unreadable-image"),
        (b"hello", 415, "unsupported-image"),
        (b"GIF89a" + b"\0" * 100, 415, "unsupported-image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "unsupported-image"),
        (b"PK\3\4" + b"\0" * 100, 415, "unsupported-image"),
        (jpeg()[:200], 422, "unreadable-image"),
        (jpeg()[:-40], 422, "unreadable-image"),
        (png()[:40], 422, "unreadable-image"),
        (BOMB, 413, "upload-too-large"),
    ],
)
@ONE_DATABASE
def test_a_bad_picture_is_refused_and_leaves_nothing(
    client: FlaskClient, rooms: Services, picture: bytes, status: int, slug: str
) -> None:
    assert_problem(post(client, picture), status, slug)
    assert not blobs(rooms.settings)
    assert client.get("/v1/jobs").get_json()["items"] == []


@ONE_DATABASE
def test_a_mislabelled_picture_is_what_its_bytes_say(client: FlaskClient) -> None:
    assert submitted(client, image=png(), filename="mole.jpg")["input"]["media_type"] == "image/png"


@ONE_DATABASE
def test_stored_bytes_carry_no_metadata(client: FlaskClient) -> None:
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "patient Kim"
    Image.new("RGB", (8, 8)).save(out, "JPEG", exif=exif)
    job = submitted(client, image=out.getvalue())
    stored = client.get(job["artifacts"]["image"], buffered=True)
    assert b"patient Kim" not in stored.data


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\kim\\mole.jpg", "mole.jpg"),
        ("mo\u202elegpj.exe", "molegpj.exe"),
        ("mole\x07\x1b.jpg", "mole.jpg"),
        ("각" * 400, "각" * 255),
        ("   ", None),
        ("/", None),
        ("<script>alert(1)<", "<script>alert(1)<"),
    ],
)
@ONE_DATABASE
def test_file_names_are_labels_and_never_paths(client: FlaskClient, sent: str, kept: str | None) -> None:
    assert submitted(client, filename=sent)["input"]["filename"] == kept


@ONE_DATABASE
def test_a_frame_that_is_not_there_is_refused(client: FlaskClient, rooms: Services) -> None:
    body = assert_problem(post(client, frame="2"), 400, "invalid-request")
    assert "there is no frame 2" in body["detail"]
    assert not blobs(rooms.settings)


def test_what_is_to_be_explained_is_kept(client: FlaskClient) -> None:
    assert submitted(client, explain="medium")["explain"] == "medium"
    assert submitted(client)["explain"] == "none"


def test_a_pipeline_without_weights_is_refused_with_the_reason(client: FlaskClient) -> None:
    body = assert_problem(post(client, pipeline="scalp"), 409, "pipeline-unavailable")
    assert "There are no trained weights" in body["detail"]
    assert "make train PIPELINE=scalp" in body["detail"]


@ONE_DATABASE
def test_a_pipeline_without_sites_refuses_any(client: FlaskClient) -> None:
    assert_problem(post(client, pipeline="chest-xray", site="back"), 400, "invalid-request", "/site")
