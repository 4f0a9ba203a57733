"""Whatever somebody puts wherever he can: no 5xx, no hang, and a problem that says what is wrong.

The places come from the OpenAPI document, so that a new field is swept without anybody thinking of it. A part of all
texts and files goes into each place, another part into another; with `--long` all of them go into all.
"""

import io
import threading
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event
from werkzeug.datastructures import FileStorage

from api.services import Services
from tests.api.driving import JPEG
from tests.api.people import with_key
from tests.api.sweeping import BODIES, VALUES, Operation, Place, form, operations, send
from tests.api.test_hostile import naughty_strings
from tests.fuzzing import Things, served
from tests.servers import Redis
from tests.shared_data import shared_data

pytestmark = pytest.mark.timeout(7200)  # with --long
MEMORY_KB = 512 * 1024  # a picture of MEDQ_MAX_PIXELS has 150 MB, and is decoded once


@dataclass(frozen=True)
class Sweep:
    client: FlaskClient
    rooms: Services
    things: Things
    operations: tuple[Operation, ...]
    whole: bool

    def into(self, kinds: Iterable[str], values: Iterable[Any], number: int) -> tuple[int, list[str]]:
        """How many requests were sent, which `-s` shows, and what was wrong with their answers."""
        every, wrong, sent = list(values), [], 0
        for operation in self.operations:
            for place in operation.places():
                if place.kind not in kinds:
                    continue
                for value in place.some(every, len(every) if self.whole else number):
                    sent += 1
                    if said := self._said(operation, place, value):
                        wrong.append(f"{place}: {str(value)[:80]!r}: {said}")
        print(f"{', '.join(kinds)}: {sent} requests, {len(wrong)} wrong")
        return sent, wrong

    def _said(self, operation: Operation, place: Place, value: Any) -> str:
        response = send(self.client, self.things, operation, place, value)
        status, media = response.status_code, response.mimetype
        response.close()
        if status >= 500 or (status >= 400 and media != "application/problem+json"):
            return f"{status} {media} {response.text[:200]}"
        return ""


@pytest.fixture(scope="module")
def sweep(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, redis_server: Redis
) -> Iterator[Sweep]:
    redis_server.restore()
    folder = tmp_path_factory.mktemp("sweep")
    with served(folder, broker_url=redis_server.url, compat="on", min_free_bytes=0) as (app, key):
        client = with_key(app, key)
        rooms: Services = app.extensions["medq"]
        document = client.get("/openapi.json").get_json()
        whole = bool(request.config.getoption("--long"))
        yield Sweep(client, rooms, Things(rooms), tuple(operations(document)), whole)


def hostile_files() -> dict[str, bytes]:
    """Every picture, archive and DICOM file that was made or found to break a reader."""
    found = {}
    for folder in ("dicom", "hostile"):
        for path in sorted(shared_data(folder).rglob("*")):
            if path.is_file():
                found[path.name] = path.read_bytes()
    for name in ("images_broken.zip", "archives_fuzz.zip"):
        with zipfile.ZipFile(io.BytesIO(found.pop(name))) as packed:
            found |= {one: packed.read(one) for one in packed.namelist() if not one.endswith("/")}
    return found


def test_the_document_names_every_kind_of_place(sweep: Sweep) -> None:
    places = {place for operation in sweep.operations for place in operation.places()}
    assert {
        Place("GET /v1/jobs", "query", "cursor"),
        Place("POST /v1/jobs", "header", "Idempotency-Key"),
        Place("POST /v1/jobs", "form", "question", "multipart/form-data"),
        Place("POST /v1/jobs", "file", "image", "multipart/form-data"),
        Place("POST /v1/batches", "name", "archive", "multipart/form-data"),
        Place("POST /v1/jobs/{job_id}/review", "json", "note", "application/json"),
        Place("PUT /v1/pauses/{pipeline}/{lane}", "path", "lane"),
        Place("PATCH /v1/uploads/{upload_id}", "header", "Upload-Checksum"),
    } <= places
    assert {operation.method for operation in sweep.operations} == {"GET", "POST", "PUT", "PATCH", "DELETE"}


def test_no_operation_asks_for_a_connection_while_it_holds_one(sweep: Sweep) -> None:
    """Its second would wait for a migration that waits for the first."""
    pool = sweep.rooms.db.engine.pool
    held: Counter[int] = Counter()  # by thread
    most: Counter[str] = Counter()
    asked = ""

    def taken(*_: object) -> None:
        held[threading.get_ident()] += 1
        most[asked] = max(most[asked], held[threading.get_ident()])

    def given_back(*_: object) -> None:
        held[threading.get_ident()] -= 1

    event.listen(pool, "checkout", taken)
    event.listen(pool, "checkin", given_back)
    try:
        for operation in sweep.operations:
            sweep.rooms.pace._until = 0.0  # it measures anew
            asked = operation.label
            usual = Place(operation.label, "header", "Accept")
            send(sweep.client, sweep.things, operation, usual, "*/*").close()
    finally:
        event.remove(pool, "checkout", taken)
        event.remove(pool, "checkin", given_back)
    assert {label: number for label, number in most.items() if number > 1} == {}
    assert len(most) > 30


def test_no_text_breaks_a_field(sweep: Sweep) -> None:
    sent, wrong = sweep.into(("path", "query", "json", "form", "name"), naughty_strings(), 8)
    assert wrong == []
    assert sent > 500


def test_no_text_breaks_a_header(sweep: Sweep) -> None:
    sent, wrong = sweep.into(("header",), naughty_strings(), 1)
    assert wrong == []
    assert sent > 1000


def test_no_value_of_another_kind_breaks_a_field(sweep: Sweep) -> None:
    assert sweep.into(("json",), VALUES, len(VALUES))[1] == []


def test_no_body_breaks_an_operation(sweep: Sweep) -> None:
    texts = [text.encode() for text in naughty_strings()]
    assert sweep.into(("body",), BODIES, len(BODIES))[1] == []
    assert sweep.into(("body",), texts, 4)[1] == []


def test_no_file_breaks_a_field_that_takes_one(sweep: Sweep) -> None:
    files = hostile_files()
    assert len(files) > 1400
    before = _memory_kb()
    assert sweep.into(("file", "body"), files.values(), 60)[1] == []
    assert _memory_kb()["VmHWM"] < max(before["VmHWM"], before["VmRSS"] + MEMORY_KB)


def test_no_text_and_no_file_breaks_the_paths_of_older_systems(sweep: Sweep) -> None:
    """Which the document leaves out. Nothing here is accepted, since no worker would answer."""
    wrong = []
    texts, files = naughty_strings(), list(hostile_files().values())
    for text in texts if sweep.whole else texts[::16]:
        for path in ("/visionOutputs/", "/llmOutputs/", "/upload"):
            wrong += _compat(sweep.client, path, text)
        fields = {"image": text, "precision": text, "explain": text}
        for name in fields:
            wrong += _wrong(sweep.client, "/predict", json={"image": ""} | {name: text})
        empty = FileStorage(io.BytesIO(b""), "a")
        wrong += _wrong(sweep.client, "/predict", **form({"value_num": text, "image": empty}))
        wrong += _wrong(sweep.client, "/predict_all", **form({"image": text}))
    for data in files if sweep.whole else files[::40]:
        wrong += _wrong(sweep.client, "/upload", **form({"file": FileStorage(io.BytesIO(data), "a")}))
    assert wrong == []


def _compat(client: FlaskClient, path: str, text: str) -> list[str]:
    if path == "/upload":
        return _wrong(
            client, path, **form({"id": text, "text": text, "file": FileStorage(io.BytesIO(JPEG), "a")})
        )
    response = client.get(path + text.replace("/", "%2F").replace("?", "%3F"), buffered=True)
    return [f"{path} {text!r}: {response.status_code}"] if response.status_code >= 500 else []


def _wrong(client: FlaskClient, path: str, **said: Any) -> list[str]:
    response = client.post(path, buffered=True, **said)
    status = response.status_code
    shown = {name: str(value)[:80] for name, value in said.items()}
    return [f"{path} {shown}: {status} {response.text[:100]}"] if status >= 500 else []


def _memory_kb() -> dict[str, int]:
    """What this process holds, and the most that it ever held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {
        name: int(rest.split()[0])
        for name, _, rest in (line.partition(":") for line in lines)
        if name[:2] == "Vm"
    }
