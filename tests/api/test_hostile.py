import json
import zipfile

from flask.testing import FlaskClient

from api.services import Services
from shared.asked import BIDI_CONTROLS
from tests.api.driving import ONE_DATABASE, blobs, post
from tests.shared_data import shared_data

CHOICES = (
    "pipeline",
    "lang",
    "age",
    "sex",
    "site",
    "explain",
    "expires_in_s",
    "answer",
    "external",
    "metadata",
)


def naughty_strings() -> list[str]:
    found: list[str] = json.loads(shared_data("hostile", "naughty_strings.json").read_text("utf-8"))
    assert len(found) > 500
    return found


def test_every_naughty_string_comes_back_from_every_free_text(client: FlaskClient) -> None:
    for text in naughty_strings():
        metadata = {text[:100]: text}
        response = post(
            client, question=text, filename=text or "a", metadata=json.dumps(metadata, ensure_ascii=False)
        )
        assert response.status_code == 202, (text, response.text)
        job = response.get_json()
        assert (job["question"], job["metadata"]) == (text, metadata)
        name = job["input"]["filename"] or ""
        assert not {"/", "\\", "\n", "\r", "\0", *BIDI_CONTROLS} & set(name)
        assert client.get("/v1/jobs", query_string={"q": text[:200], "limit": 1}).status_code == 200


@ONE_DATABASE
def test_no_naughty_string_passes_for_a_choice(client: FlaskClient, rooms: Services) -> None:
    for text in filter(None, naughty_strings()):
        for field in CHOICES:
            response = post(client, image=b"", **{field: text})
            assert response.status_code in (400, 422), (field, text, response.text)
            assert response.mimetype == "application/problem+json"
    assert not blobs(rooms.settings)


@ONE_DATABASE
def test_no_naughty_string_breaks_a_path_a_filter_or_a_header(client: FlaskClient) -> None:
    for text in filter(None, naughty_strings()):
        for name in ("status", "pipeline", "batch_id", "created_after", "limit", "cursor", text):
            response = client.get("/v1/jobs", query_string={name: text})
            assert response.status_code in (200, 400), (name, text)
        assert client.get("/v1/jobs/" + text.replace("/", "%2F")).status_code in (400, 404, 200, 308)
        header = text.encode("utf-8").decode("latin-1").replace("\n", "").replace("\r", "")
        headers = {
            "Idempotency-Key": header,
            "X-Request-Id": header,
            "Prefer": header,
            "If-None-Match": header,
        }
        response = client.get("/v1/jobs", headers=headers)
        assert response.status_code == 200
        assert response.headers["X-Request-Id"].isascii()


@ONE_DATABASE
def test_every_broken_picture_is_refused_or_accepted(client: FlaskClient, rooms: Services) -> None:
    accepted = 0
    with zipfile.ZipFile(shared_data("hostile", "images_broken.zip")) as archive:
        names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
        assert len(names) > 700
        for name in names:
            response = post(client, archive.read(name), filename=name)
            assert response.status_code == 202 or 400 <= response.status_code < 500, (name, response.text)
            assert response.mimetype == "application/" + (
                "json" if response.status_code == 202 else "problem+json"
            )
            accepted += response.status_code == 202
    assert len(blobs(rooms.settings)) == accepted > 0
