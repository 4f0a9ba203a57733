import html
import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from shared.errors import error_classes
from tests.api.driving import ONE_DATABASE, assert_problem, post

pytestmark = ONE_DATABASE


# Problems


@pytest.mark.parametrize(
    "path", ["/nothing", "/v1", "/v1/jobs/", "/v1/batches/", "/problems/", "/%ff", "/docs/x"]
)
def test_what_is_not_there_is_a_problem(client: FlaskClient, path: str) -> None:
    body = assert_problem(client.get(path), 404, "not-found")
    assert body["instance"].startswith("/")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/v1/jobs", {"GET", "HEAD", "POST", "OPTIONS"}),
        ("POST", "/healthz", {"GET", "HEAD", "OPTIONS"}),
        ("BREW", "/v1/pipelines", {"GET", "HEAD", "OPTIONS"}),
        ("GET", "/v1/jobs/x/cancel", {"POST", "OPTIONS"}),
    ],
)
def test_a_wrong_method_is_a_problem_that_names_the_right_ones(
    client: FlaskClient, method: str, path: str, allow: set[str]
) -> None:
    response = client.open(path, method=method)
    assert_problem(response, 405, "method-not-allowed")
    assert set(response.headers["Allow"].split(", ")) == allow


@pytest.mark.parametrize(
    "path", ["/v1/jobs", "/v1/pipelines", "/healthz", "/openapi.json", "/nothing", "/v1/jobs/x"]
)
def test_head_answers_like_get_without_a_body(client: FlaskClient, path: str) -> None:
    head, got = client.head(path), client.get(path)
    assert (head.status_code, head.mimetype, head.data) == (got.status_code, got.mimetype, b"")


def test_options_names_the_methods(client: FlaskClient) -> None:
    response = client.options("/v1/jobs")
    assert response.status_code == 200
    assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD", "POST", "OPTIONS"}


def test_what_nobody_expected_tells_a_stranger_nothing(app: Flask, client: FlaskClient, capsys: Any) -> None:
    @app.get("/broken")
    def broken() -> str:
        raise RuntimeError("the secret")

    response = client.get("/broken")
    assert_problem(response, 500, "service-error")
    assert "secret" not in response.text
    assert "the secret" in capsys.readouterr().out


@pytest.mark.parametrize("cls", list(error_classes()))
def test_every_problem_has_its_page(client: FlaskClient, cls: Any) -> None:
    response = client.get(f"/problems/{cls.slug}")
    assert (response.status_code, response.mimetype) == (200, "text/html")
    assert cls.title in response.text
    assert " ".join(cls.__doc__.split())[:40] in html.unescape(response.text)


@pytest.mark.parametrize("slug", ["nothing", "<script>", "ServiceError"])
def test_an_unknown_problem_has_none(client: FlaskClient, slug: str) -> None:
    assert_problem(client.get(f"/problems/{slug}"), 404, "not-found")


# Who may ask


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "LOCALHOST:1", "[::1]", "[::1]:8000"])
def test_our_own_names_are_served(client: FlaskClient, host: str) -> None:
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "example.org",
        "localhost.example.org",
        "",
        "::1",
        "127.0.0.1.",
        "localhost:x",
        "localhost@evil",
        "[::2]",
    ],
)
def test_other_names_are_not(client: FlaskClient, host: str) -> None:
    assert_problem(client.get("/healthz", headers={"Host": host}), 403, "forbidden")


@pytest.mark.parametrize(
    "origin",
    ["https://example.org", "null", "http://localhost:3000", "http://localhost.example.org", "x", ""],
)
def test_a_foreign_page_may_not_write(client: FlaskClient, origin: str) -> None:
    assert_problem(post(client, headers={"Origin": origin}), 403, "forbidden")
    assert_problem(client.delete("/v1/jobs/x", headers={"Origin": origin}), 403, "forbidden")
    assert "Access-Control-Allow-Origin" not in client.get("/v1/jobs", headers={"Origin": origin}).headers


def test_our_own_page_may_write(client: FlaskClient) -> None:
    assert post(client, headers={"Origin": "http://localhost"}).status_code == 202
    same = {"Origin": "http://127.0.0.1:8000", "Host": "127.0.0.1:8000"}
    assert post(client, headers=same).status_code == 202


# Headers


@pytest.mark.parametrize("path", ["/v1/jobs", "/nothing", "/docs", "/openapi.json", "/docs/docs.js", "/"])
def test_every_answer_is_guarded(client: FlaskClient, path: str) -> None:
    headers = client.get(path, buffered=True).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    policy = headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in policy
    assert "'unsafe-" not in policy
    assert policy.startswith("default-src 'none'")
    assert headers["X-Request-Id"]


def test_a_request_id_of_the_clients_is_kept(client: FlaskClient) -> None:
    assert (
        client.get("/healthz", headers={"X-Request-Id": "abc-1.2_3"}).headers["X-Request-Id"] == "abc-1.2_3"
    )


@pytest.mark.parametrize("asked", ["x" * 65, "a b", "é", "a;b", ""])
def test_an_odd_request_id_is_replaced(client: FlaskClient, asked: str) -> None:
    assert client.get("/healthz", headers={"X-Request-Id": asked}).headers["X-Request-Id"] != asked


# Documentation


def test_the_page_is_made_of_files_of_ours(client: FlaskClient) -> None:
    page = client.get("/docs").text
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert all(source.startswith(("/", "data:")) for source in sources)
    assert "<script>" not in page
    for source in sources:
        if source.startswith("/"):
            assert client.get(source, buffered=True).status_code == 200


def test_the_document_lists_every_route(app: Flask, client: FlaskClient) -> None:
    document = client.get("/openapi.json").get_json()
    unlisted = {"/", "/page/{name}", "/docs", "/docs/{name}", "/openapi.json", "/problems/{slug}"}
    routes = {
        (re.sub(r"<(?:[^<:]+:)?([^>]+)>", r"{\1}", rule.rule), method)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    listed = {(path, method.upper()) for path, item in document["paths"].items() for method in item}
    assert {route for route in routes if route[0] not in unlisted} == listed


def test_the_document_is_sound(client: FlaskClient) -> None:
    document = client.get("/openapi.json").get_json()
    assert document["openapi"].startswith("3.1")
    assert document["info"]["title"] == "MedQ"
    for reference in references(document):
        assert resolve(document, reference), reference
    names = []
    for path, item in document["paths"].items():
        for operation in item.values():
            names.append(operation["operationId"])
            assert operation["summary"]
            declared = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
            assert declared == set(re.findall(r"{(\w+)}", path))
            assert all(answer["description"] is not None for answer in operation["responses"].values())
            assert set(operation["responses"]["400"]["content"]) == {"application/problem+json"}
    assert len(names) == len(set(names))


def test_the_document_tells_how_to_submit(client: FlaskClient) -> None:
    document = client.get("/openapi.json").get_json()
    operation = document["paths"]["/v1/jobs"]["post"]
    schema = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    properties = resolve(document, schema["$ref"])["properties"]
    assert properties["image"] == {"type": "string", "format": "binary"}
    assert {"pipeline", "question", "age", "metadata", "answer", "external"} <= set(properties)
    assert {p["name"] for p in operation["parameters"]} == {"Idempotency-Key", "Prefer"}


def references(part: Any) -> list[str]:
    if isinstance(part, dict):
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [found for value in part.values() for found in references(value)]
    return [found for value in part for found in references(value)] if isinstance(part, list) else []


def resolve(document: Any, reference: str) -> Any:
    for name in reference.removeprefix("#/").split("/"):
        document = document[name]
    return document
