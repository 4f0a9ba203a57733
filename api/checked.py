"""Checks a view's path and query once, by its own annotations, and names every field that is wrong."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

from flask import request
from pydantic import BaseModel, ValidationError

from shared.errors import FieldProblem, InvalidRequest, UnsupportedBody

MOST_JSON_BYTES = 64 * 1024

View = Callable[..., Any]
M = TypeVar("M", bound=BaseModel)


def checked(view: View) -> View:
    """Pass `path`, `query`, `header`, `body` and `form` as the models that the view names.

    flask-openapi3 only documents them: it would build each model's JSON schema anew on every request,
    and guess at types. A form's model reads the request itself, by its classmethod `read`.
    """
    sources = {"path": _path, "query": _query, "header": _header, "body": _body, "form": _form}
    models = [(name, model) for name, model in get_type_hints(view).items() if name in sources]

    @functools.wraps(view)
    def wrapper(**_path_parts: str) -> Any:
        return view(**{name: sources[name](model) for name, model in models})

    wrapper.__delay_validate_request__ = True  # type: ignore[attr-defined]
    return wrapper


def validate(model: type[M], values: dict[str, Any]) -> M:
    """Raises: InvalidRequest that names every wrong field"""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InvalidRequest("A field has a value that is not allowed.", errors=problems(error)) from None


def problems(error: ValidationError) -> list[FieldProblem]:
    """pydantic's errors without the values, which may be the patient's."""
    return [
        FieldProblem(item["msg"].removeprefix("Value error, "), pointer(*item["loc"]))
        for item in error.errors(include_input=False, include_url=False, include_context=False)
    ]


def pointer(*parts: object) -> str:
    """A JSON pointer. Source: RFC 6901."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def _path(model: type[M]) -> M:
    return validate(model, request.view_args or {})


def _query(model: type[M]) -> M:
    repeated = [name for name, values in request.args.lists() if len(values) > 1]
    if repeated:
        raise InvalidRequest(
            "A parameter is given more than once.",
            errors=[FieldProblem("is given more than once", pointer(name)) for name in repeated],
        )
    return validate(model, {name: value for name, value in request.args.items() if value})


def _header(model: type[M]) -> M:
    names = [field.alias for field in model.model_fields.values() if field.alias]
    return validate(model, {name: request.headers[name] for name in names if name in request.headers})


def _body(model: type[M]) -> M:
    """JSON, of which an empty body counts as {}."""
    request.max_content_length = MOST_JSON_BYTES
    data = request.get_data()
    if data and request.mimetype != "application/json":
        raise UnsupportedBody("The body must be application/json.")
    try:
        return model.model_validate_json(data or b"{}")
    except ValidationError as error:
        raise InvalidRequest("A field has a value that is not allowed.", errors=problems(error)) from None


def _form(model: Any) -> Any:
    return model.read(request)
