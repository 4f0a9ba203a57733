"""Two owners in one server: what one of them has there, and requests that any of them could send."""

import base64
import functools
from dataclasses import dataclass
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.app import create_app
from api.services import Services
from shared import keys
from shared.settings import Settings
from tests.api.batching import accepted, pictures, zipped
from tests.api.driving import Worker, submitted

SECRET = "Is the thing on my left shoulder dangerous?"
TUS = {"Tus-Resumable": "1.0.0"}


@dataclass(frozen=True)
class Operation:
    """One of the document's."""

    method: str
    path: str
    parameters: frozenset[str]  # of path and query

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@functools.cache
def operations() -> tuple[Operation, ...]:
    """Every operation that the OpenAPI document lists, in its order."""
    app = create_app(Settings(data_dir="/nonexistent"))
    document: dict[str, Any] = app.test_client().get("/openapi.json").get_json()
    return tuple(
        Operation(
            method.upper(),
            path,
            frozenset(
                one["name"] for one in operation.get("parameters", []) if one["in"] in ("path", "query")
            ),
        )
        for path, item in document["paths"].items()
        for method, operation in item.items()
    )


class Person:
    """An owner with a key, and a client that shows it."""

    def __init__(self, app: Flask, name: str, scopes: tuple[str, ...] = keys.SCOPES) -> None:
        rooms: Services = app.extensions["medq"]
        self.name = name
        self.key_id, self.key = keys.create(rooms.db, name, scopes)
        self.client = with_key(app, self.key)


def with_key(app: Flask, key: str) -> FlaskClient:
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
    return client


@dataclass(frozen=True)
class Belongings:
    """What an owner has on the server: an ended job, a batch, an unfinished upload."""

    job_id: str
    batch_id: str
    upload_id: str

    @property
    def ids(self) -> dict[str, str]:
        return {"job_id": self.job_id, "batch_id": self.batch_id, "upload_id": self.upload_id}


def belongings(person: Person, worker: Worker) -> Belongings:
    hook = "http://127.0.0.1:9/left-shoulder"
    job_id = submitted(person.client, question=SECRET, filename="left-shoulder.jpg", webhook_url=hook)["id"]
    worker.finish(job_id)
    batch_id = accepted(person.client, zipped(pictures(1)), filename="left-shoulder.zip")["id"]
    begun = person.client.post("/v1/uploads", headers=TUS | {"Upload-Length": "5"})
    return Belongings(job_id, batch_id, begun.headers["Location"].rpartition("/")[2])


def said(operation: Operation) -> dict[str, Any]:
    """Headers and body with which an operation makes sense, whatever it is about."""
    if operation.path.startswith("/v1/uploads"):
        offset = {"Upload-Offset": "0", "Upload-Length": "5", "X-HTTP-Method-Override": "DELETE"}
        body = {"data": b"hello", "content_type": "application/offset+octet-stream"}
        return {"headers": TUS | offset} | (body if operation.method == "PATCH" else {})
    if operation.path.endswith("/review"):
        return {"json": {"verdict": "agree"}}
    if operation.path.endswith("/messages") and operation.method == "POST":
        return {"json": {"text": "Is it?"}}
    return {"json": {}} if operation.method in ("POST", "PUT", "PATCH") else {}


def ask(client: FlaskClient, operation: Operation, ids: dict[str, str], query: str = "") -> TestResponse:
    """Send an operation about what `ids` names."""
    known = ids | {"name": "image" if "artifacts" in operation.path else "skin"}
    known |= {"pipeline": "scalp", "lane": "bulk"}
    path = operation.path.format_map(known)
    return client.open(path + query, method=operation.method, buffered=True, **said(operation))


def a_cursor(some_id: str) -> str:
    return base64.urlsafe_b64encode(some_id.encode()).decode()
