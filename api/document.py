"""The OpenAPI document with what the code says in one place: which key and scope each operation asks for."""

from typing import Any

from flask_openapi3.openapi import OpenAPI

from api.auth import COOKIE, PUBLIC, needed
from api.problems import MEDIA_TYPE
from api.uploads import BODY, VERSION

SCHEMES = {
    "key": {"type": "http", "scheme": "bearer", "description": "A key of `medq key create`: mq_..."},
    "session": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "From POST /v1/session"},
}
REFUSAL = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
DENIED = {
    "401": {"description": "No key, or one that this server does not know", "content": REFUSAL},
    "403": {"description": "The key lacks the scope, or the page is another server's", "content": REFUSAL},
}


def guarded(app: OpenAPI, auth: str) -> dict[str, Any]:
    """The document for a server that asks for keys, or for one in open mode, where none is needed."""
    document: dict[str, Any] = app.api_doc
    document.setdefault("components", {})["securitySchemes"] = SCHEMES
    endpoints = {
        (rule.rule.replace("<", "{").replace(">", "}"), method.lower()): rule.endpoint
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
    }
    for path, item in document["paths"].items():
        for method, operation in item.items():
            endpoint = endpoints[path, method]
            if endpoint in PUBLIC:
                operation["security"] = []
                continue
            scope = needed(endpoint, method.upper())
            operation["security"] = [{"key": [scope] if scope else []}, {"session": []}]
            if auth == "open":
                operation["security"].append({})
            operation["responses"] = DENIED | operation["responses"]
    _take_empty_for_absent(document)
    for form in ("SubmitForm", "BatchForm"):
        for name, field in document["components"]["schemas"][form]["properties"].items():
            document["components"]["schemas"][form]["properties"][name] = _sent(field)
    for path in ("/v1/uploads", "/v1/uploads/{upload_id}"):
        for method, operation in document["paths"][path].items():
            if method != "get":
                _speaks_tus(path, method, operation)
    return document


def _take_empty_for_absent(document: dict[str, Any]) -> None:
    """What api.checked does: a client that goes through pages may begin with `cursor=`."""
    for item in document["paths"].values():
        for operation in item.values():
            for one in operation.get("parameters", ()):
                if one["in"] == "query" and not one.get("required"):
                    one["allowEmptyValue"] = True


def _sent(field: dict[str, Any]) -> dict[str, Any]:
    """A form has no null: what is unknown is left out."""
    kinds = [kind for kind in field.get("anyOf", []) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return field
    kind: dict[str, Any] = kinds[0]
    return {name: value for name, value in field.items() if name not in ("anyOf", "default")} | kind


def _speaks_tus(path: str, method: str, operation: dict[str, Any]) -> None:
    """What the protocol wants and the views check by hand, so that a refusal is tus's own."""
    parameters = operation.setdefault("parameters", [])
    parameters.append(_header("Tus-Resumable", {"type": "string", "enum": [VERSION]}))
    wanted = {"/v1/uploads": "Upload-Length"}.get(path, "Upload-Offset" if method == "patch" else "")
    for one in parameters:
        if one["name"] == wanted:
            one["required"] = True
            one["schema"] = {
                "type": "integer",
                "minimum": int(wanted == "Upload-Length"),
                "maximum": 2**63 - 1,
            }
    if method == "patch":
        bytes_ = {"schema": {"type": "string", "format": "binary"}}
        operation["requestBody"] = {"content": {BODY: bytes_}, "required": True}
    if method == "post" and path != "/v1/uploads":
        parameters.append(_header("X-HTTP-Method-Override", {"type": "string", "enum": ["PATCH", "DELETE"]}))


def _header(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": True, "schema": schema}
