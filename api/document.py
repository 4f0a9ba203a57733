"""The OpenAPI document with what the code says in one place: which key and scope each operation asks for."""

from typing import Any

from flask_openapi3.openapi import OpenAPI

from api.auth import COOKIE, PUBLIC, needed
from api.problems import MEDIA_TYPE

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
    return document
