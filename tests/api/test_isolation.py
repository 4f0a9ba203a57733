"""No owner sees, counts or changes what is another's: asked of every operation that the document lists."""

import json
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from api.auth import PUBLIC
from shared import keys
from shared.database import Database
from shared.ids import new_id
from shared.tables import ArtifactRow, BatchRow, JobRow, ReviewRow, UploadRow
from tests.api.batching import accepted, pictures, post_batch, zipped
from tests.api.driving import ONE_DATABASE, Worker, assert_problem, blobs, get, post, submitted
from tests.api.people import (
    SECRET,
    Belongings,
    Operation,
    Person,
    a_cursor,
    ask,
    belongings,
    operations,
    with_key,
)

pytestmark = ONE_DATABASE

# What parameters may name: a new one must be put into one of these, by somebody who thought about it.
OWNED = frozenset({"job_id", "batch_id", "upload_id"})
OWNED_IN_QUERY = {
    "batch_id": lambda mine: mine.batch_id,
    "against": lambda mine: mine.batch_id,
    "cursor": lambda mine: a_cursor(mine.job_id),
}
NOBODYS = frozenset(
    {
        "name",
        "wait",
        "limit",
        "status",
        "pipeline",
        "lane",
        "created_after",
        "created_before",
        "q",
        "bom",
        "images",
        "month",
        "reviewed",
        "order",
    }
)
FREE = {
    ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/v1/about"), ("GET", "/v1/pipelines"), ("GET", "/v1/pipelines/{name}"),
    ("GET", "/v1/pipelines/{name}/card"), ("POST", "/v1/session"), ("DELETE", "/v1/session"),
}  # fmt: skip
# The replaced systems' contracts are not MedQ's, so the document leaves them out; tests/api/test_compat.py asks the
# same of them.
COMPAT = {f"compat.{name}" for name in ("predict", "predict_all", "upload", "vision_outputs", "llm_outputs")}


@pytest.fixture
def app(start: Callable[..., Flask]) -> Flask:
    return start(auth="keys", webhook_secret="0123456789abcdef" * 2, webhook_allow="127.0.0.1")


@pytest.fixture
def anna(app: Flask) -> Person:
    return Person(app, "anna")


@pytest.fixture
def ben(app: Flask) -> Person:
    return Person(app, "ben")


@pytest.fixture
def annas(anna: Person, worker: Worker) -> Belongings:
    return belongings(anna, worker)


every_operation = pytest.mark.parametrize("operation", operations(), ids=str)
about_something = pytest.mark.parametrize(
    "operation", [one for one in operations() if one.parameters & OWNED and "{" in one.path], ids=str
)


def kept(database: Database, app: Flask) -> Any:
    """Everything that is stored, as it is now."""

    def rows(table: Any) -> list[Any]:
        return list(database.read(lambda session: session.execute(select(table.__table__)).all()))

    tables = [rows(table) for table in (JobRow, BatchRow, UploadRow, ArtifactRow, ReviewRow)]
    return tables, {str(path): path.read_bytes() for path in blobs(app.extensions["medq"].settings)}


@about_something
def test_what_is_anothers_is_answered_like_what_does_not_exist(
    app: Flask, database: Database, annas: Belongings, anna: Person, ben: Person, operation: Operation
) -> None:
    before = kept(database, app)
    strange = dict.fromkeys(annas.ids, new_id())
    hers, nobodys = ask(ben.client, operation, annas.ids), ask(ben.client, operation, strange)
    assert_problem(hers, 404, "not-found")
    text = hers.text
    for name, own in annas.ids.items():
        text = text.replace(own, strange[name])
    assert text == nobodys.text
    left_out = {"X-Request-Id", "Date", "Content-Length"}
    headers = [{n: v for n, v in one.headers.items() if n not in left_out} for one in (hers, nobodys)]
    assert headers[0] == headers[1]
    assert kept(database, app) == before
    assert ask(anna.client, operation, annas.ids).status_code != 404


@every_operation
def test_nothing_of_anothers_is_in_any_answer(annas: Belongings, ben: Person, operation: Operation) -> None:
    assert operation.parameters <= OWNED | set(OWNED_IN_QUERY) | NOBODYS  # a new one is to be thought about
    submitted(ben.client)
    queries = [""] + [
        f"?{name}={of(annas)}" for name, of in OWNED_IN_QUERY.items() if name in operation.parameters
    ]
    if "q" in operation.parameters:
        queries.append("?q=shoulder")
    own = {name: new_id() for name in annas.ids}
    for query in queries:
        answer = ask(ben.client, operation, own, query).text
        asked = query + operation.path
        for secret in [*annas.ids.values(), SECRET, "left-shoulder", "anna"]:
            assert secret not in answer or secret in asked


def test_without_a_key_nothing_but_what_is_public_is_answered(app: Flask, annas: Belongings) -> None:
    for operation in operations():
        for client in (app.test_client(), with_key(app, "mq_" + "x" * 43), with_key(app, "nonsense")):
            response = ask(client, operation, annas.ids)
            if (operation.method, operation.path) in FREE:
                assert response.status_code != 401 or operation.path == "/v1/session", operation
            else:
                assert_problem(response, 401, "unauthorized")
                assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_every_operation_but_the_public_ones_wants_a_scope(app: Flask, annas: Belongings) -> None:
    powerless = with_key(app, keys.create(app.extensions["medq"].db, "anna", ["review"])[1])
    for operation in operations():
        response = ask(powerless, operation, annas.ids)
        if (operation.method, operation.path) in FREE | {("GET", "/v1/session")}:
            assert response.status_code != 403, operation
        elif not operation.path.endswith("/review"):
            assert_problem(response, 403, "forbidden")


def test_no_other_page_is_public(app: Flask) -> None:
    pages = {"help_page", "docs.docs", "docs.asset", "docs.openapi", "page.index", "page.asset"}
    listed = {
        rule.endpoint
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
        if (method, rule.rule.replace("<", "{").replace(">", "}")) in FREE
    }
    assert pages | listed == PUBLIC
    assert {rule.endpoint for rule in app.url_map.iter_rules()} >= PUBLIC


def test_only_public_pages_and_old_contracts_are_left_out_of_the_document(
    start: Callable[..., Flask],
) -> None:
    listed = {(one.method, one.path) for one in operations()}
    rules: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for rule in start(compat="on").url_map.iter_rules():
        path = rule.rule.replace("<", "{").replace(">", "}")
        rules[rule.endpoint] |= {(method, path) for method in rule.methods or ()}
    left_out = {endpoint for endpoint, ways in rules.items() if not ways & listed}
    assert left_out - PUBLIC == COMPAT


def test_a_list_holds_the_callers_own_and_its_pages_too(anna: Person, ben: Person) -> None:
    made: dict[str, list[str]] = {"anna": [], "ben": []}
    for person in (anna, ben, ben, anna, ben):
        made[person.name].insert(0, submitted(person.client)["id"])
    for person in (anna, ben):
        first = person.client.get("/v1/jobs?limit=2").get_json()
        second = person.client.get(f"/v1/jobs?limit=2&cursor={first['next'] or ''}").get_json()
        items = first["items"] + (second["items"] if first["next"] else [])
        assert [job["id"] for job in items] == made[person.name]


def test_batches_are_listed_to_their_owner(anna: Person, ben: Person) -> None:
    batch_id = accepted(anna.client, zipped(pictures(1)))["id"]
    assert [one["id"] for one in anna.client.get("/v1/batches").get_json()["items"]] == [batch_id]
    assert ben.client.get("/v1/batches").get_json()["items"] == []


def test_an_upload_becomes_its_owners_batch_only(annas: Belongings, ben: Person) -> None:
    hers = post_batch(ben.client, upload_id=annas.upload_id)
    assert_problem(hers, 404, "not-found")
    assert hers.text == post_batch(ben.client, upload_id=new_id()).text
    assert_problem(post_batch(ben.client, upload_id=annas.batch_id), 404, "not-found")


def test_results_are_not_compared_with_anothers(annas: Belongings, ben: Person) -> None:
    own = accepted(ben.client, zipped(pictures(1)))["id"]
    for file in ("results.csv", "results.zip"):
        response = ben.client.get(f"/v1/batches/{own}/{file}?against={annas.batch_id}")
        assert_problem(response, 404, "not-found")


def test_the_same_idempotency_key_of_two_owners_makes_two_jobs(anna: Person, ben: Person) -> None:
    same = {"Idempotency-Key": "k"}
    first, second = (post(person.client, headers=same) for person in (anna, ben))
    assert (first.status_code, second.status_code) == (202, 202)
    assert post(anna.client, headers=same).get_json()["id"] == first.get_json()["id"]
    assert first.get_json()["id"] != second.get_json()["id"]
    archive = zipped(pictures(1))
    batches = [post_batch(person.client, archive, headers=same) for person in (anna, ben)]
    assert [one.status_code for one in batches] == [202, 202]


def test_uploads_are_counted_for_each_owner(start: Callable[..., Flask]) -> None:
    app = start(auth="keys", max_uploads=1)
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "5"}
    for name in ("anna", "ben"):
        client = Person(app, name).client
        assert client.post("/v1/uploads", headers=headers).status_code == 201
        assert_problem(client.post("/v1/uploads", headers=headers), 429, "too-many-requests")


def test_a_rerun_stays_the_owners(annas: Belongings, anna: Person, ben: Person) -> None:
    again = anna.client.post(f"/v1/jobs/{annas.job_id}/rerun").get_json()["id"]
    assert get(anna.client, again).status_code == 200
    assert get(ben.client, again).status_code == 404


def test_all_keys_of_an_owner_see_the_same(app: Flask, annas: Belongings) -> None:
    other = Person(app, "anna", ("read",))
    assert json.loads(get(other.client, annas.job_id).data)["question"] == SECRET
