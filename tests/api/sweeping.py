"""Every place of every operation into which a client can put something, taken from the OpenAPI document itself."""

import io
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from flask.testing import FlaskClient
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse, encode_multipart

from tests.api.driving import JPEG
from tests.api.people import TUS
from tests.fuzzing import ARCHIVE, Things

# What any request may carry, whether or not the document names it for an operation.
HEADERS = (
    "Accept", "Accept-Encoding", "Accept-Language", "Authorization", "Content-Type", "Cookie", "Forwarded", "Host",
    "Idempotency-Key", "If-Match", "If-Modified-Since", "If-None-Match", "If-Range", "Last-Event-ID", "Origin", "Prefer",
    "Range", "Referer", "Tus-Resumable", "Upload-Checksum", "Upload-Length", "Upload-Metadata", "Upload-Offset",
    "User-Agent", "X-Forwarded-For", "X-HTTP-Method-Override", "X-Request-Id", "traceparent",
)  # fmt: skip
FORM, JSON = "multipart/form-data", "application/json"
# Bodies that are none, or that no parser should go far into.
BODIES = (
    b"", b"\0", b"\xff\xfe", b"{", b"[" * 5_000, b'{"a":' * 5_000, b"null", b"[]", b'"text"', b"1e999", b"NaN",
    b'{"a": "\\ud800"}', b'{"a": 1, "a": 2}', b"{}\0", b"--x--\r\n", b"--\r\n" * 1_000, b"PK\x03\x04", b"\x1f\x8b",
)  # fmt: skip
# What stands where a text, a number or a choice should.
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 2**63, 10**400, 1e308, 0.1, "", "\0", "\ud800", "x" * 100_000, [], {}, [[[[]]]], {"a": {"b": [None]}},
    ["x"] * 1_000,
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where something of a client's goes: kind is path, query, header, json, form, file, name (of a file) or body."""

    operation: str  # "POST /v1/jobs"
    kind: str
    name: str
    media: str = ""  # of the body that it is a part of

    def __str__(self) -> str:
        return f"{self.operation} {self.kind} {self.name}"

    def some(self, every: Sequence[Any], number: int) -> Sequence[Any]:
        """A part of them, the same in every run and another for each place."""
        return random.Random(str(self)).sample(every, min(number, len(every)))


@dataclass(frozen=True)
class Operation:
    """What the document says of one."""

    method: str
    path: str
    parameters: tuple[tuple[str, str], ...]  # where it stands, and its name
    bodies: tuple[tuple[str, dict[str, Any]], ...]  # media type and schema

    @property
    def label(self) -> str:
        return f"{self.method} {self.path}"

    def places(self) -> Iterator[Place]:
        for kind, name in self.parameters:
            yield Place(self.label, kind, name)
        for name in HEADERS:
            if ("header", name) not in self.parameters:
                yield Place(self.label, "header", name)
        for media, schema in self.bodies:
            yield Place(self.label, "body", media, media)
            for name, field in schema.get("properties", {}).items():
                if media == JSON:
                    yield Place(self.label, "json", name, media)
                elif _is_file(field):
                    yield Place(self.label, "file", name, media)
                    yield Place(self.label, "name", name, media)
                else:
                    yield Place(self.label, "form", name, media)

    def usual(self, media: str) -> dict[str, Any]:
        """A body that is right but for what a test puts into it."""
        schema = dict(self.bodies).get(media, {})
        if media == JSON:
            fields = schema.get("properties", {})
            return {name: _example(fields[name]) for name in schema.get("required", [])}
        file = "archive" if "batches" in self.path else "image"
        content = ARCHIVE if file == "archive" else JPEG
        return {file: FileStorage(io.BytesIO(content), f"{file}.bin")} if media == FORM else {}


def operations(document: dict[str, Any]) -> list[Operation]:
    return [
        Operation(
            method.upper(),
            path,
            tuple((one["in"], one["name"]) for one in item.get("parameters", [])),
            tuple(
                (media, _resolved(document, of.get("schema", {})))
                for media, of in item.get("requestBody", {}).get("content", {}).items()
            ),
        )
        for path, methods in document["paths"].items()
        for method, item in methods.items()
    ]


def send(client: FlaskClient, things: Things, operation: Operation, place: Place, value: Any) -> TestResponse:
    """The request about something that exists, and right, but for what is in that place."""
    ids = things.ids(operation.label)
    headers = _tus(operation)
    query: dict[str, str] = {}
    said: dict[str, Any] = {}
    if place.kind == "path":
        ids |= {place.name: quote(str(value), safe="")}
    elif place.kind == "query":
        query[place.name] = value
    elif place.kind == "header":
        headers[place.name] = _in_a_header(str(value))
    media = place.media or next((one for one, _ in operation.bodies), "")
    if place.kind == "body":
        said = {"data": value, "content_type": f"{FORM}; boundary=x" if media == FORM else media}
    elif media == JSON:
        fields = operation.usual(JSON) | ({place.name: value} if place.kind == "json" else {})
        said = {"data": json.dumps(fields), "content_type": JSON}
    elif media == FORM:
        said = form(operation.usual(FORM) | _part(place, value))
    elif media:
        said = {"data": b"some bytes", "content_type": media}
    if place.kind == "header" and place.name == "Content-Type":
        said.pop("content_type", None)
    path = operation.path
    for name, own in ids.items():
        path = path.replace(f"{{{name}}}", own)
    return client.open(
        path, method=operation.method, query_string=query, headers=headers, buffered=True, **said
    )


def form(fields: dict[str, Any]) -> dict[str, Any]:
    """Made in memory, since the client's own way leaves temporary files open."""
    boundary, body = encode_multipart(fields)
    return {"data": body, "content_type": f"{FORM}; boundary={boundary}"}


def _part(place: Place, value: Any) -> dict[str, Any]:
    if place.kind == "file":
        return {place.name: FileStorage(io.BytesIO(value), "a.bin")}
    if place.kind == "name":
        return {place.name: FileStorage(io.BytesIO(JPEG), _quoted(value))}
    return {place.name: value} if place.kind == "form" else {}


def _quoted(name: str) -> str:
    """As browsers write a file's name into the head of its part."""
    return name.replace("\\", "\\\\").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _tus(operation: Operation) -> dict[str, str]:
    if not operation.path.startswith("/v1/uploads"):
        return {}
    if operation.path == "/v1/uploads":
        return TUS | {"Upload-Length": "100"}
    return TUS | ({"Upload-Offset": "0"} if operation.method == "PATCH" else {})


def _in_a_header(text: str) -> str:
    """As its UTF-8 bytes, which is all that HTTP carries; no line ends, which no client library sends."""
    return text.encode("utf-8", "replace").decode("latin-1").replace("\n", "").replace("\r", "")


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = document["components"]["schemas"][name] if name else schema
    return found


def _is_file(field: dict[str, Any]) -> bool:
    return "binary" in json.dumps(field)


def _example(field: dict[str, Any]) -> Any:
    if "enum" in field:
        return field["enum"][0]
    return {"integer": 1, "number": 1, "boolean": True}.get(field.get("type", ""), "x")
