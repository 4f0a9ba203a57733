"""Checks a view's path and query once, by its own annotations, and names every field that is wrong."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

from flask import request
from pydantic import BaseModel, ValidationError

from shared.errors import FieldProblem, InvalidRequest

View = Callable[..., Any]
M = TypeVar("M", bound=BaseModel)


def checked(view: View) -> View:
    """Pass `path` and `query` as the models that the view names; flask-openapi3 only documents them.

    The library would build each model's JSON schema anew on every request, and guess at types.
    """
    models = {
        name: model for name, model in get_type_hints(view).items() if name in ("path", "query")
    }

    @functools.wraps(view)
    def wrapper(**path: Any) -> Any:
        sources = {"path": lambda: path, "query": _query}
        return view(**{name: validate(model, sources[name]()) for name, model in models.items()})

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


def _query() -> dict[str, Any]:
    repeated = [name for name, values in request.args.lists() if len(values) > 1]
    if repeated:
        raise InvalidRequest(
            "A parameter is given more than once.",
            errors=[FieldProblem("is given more than once", pointer(name)) for name in repeated],
        )
    return {name: value for name, value in request.args.items() if value}
