"""What a submit may say: the picture, what is asked of it, and the key to repeat it."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Self

from flask import Request as HttpRequest
from pydantic import BaseModel, Field, WithJsonSchema

from api.checked import validate
from api.multipart import Upload, read_form, whole
from shared.asked import Asked
from shared.idempotency import Idempotency
from shared.images import ImageInfo


class SubmitForm(Asked):
    """One picture and what is asked of it."""

    image: Annotated[Upload, WithJsonSchema({"type": "string", "format": "binary"})]

    @classmethod
    def read(cls, request: HttpRequest) -> Self:
        """Parse a request's body.

        Raises: InvalidRequest, RequestEntityTooLarge
        """
        form = read_form(request.content_type or "", request.stream, {"image": whole})
        return validate(cls, given(cls, form.texts) | form.kept)


def given(model: type[BaseModel], texts: Mapping[str, str]) -> dict[str, str]:
    """Without the empty texts of known fields: browsers send those that nobody filled in."""
    return {name: text for name, text in texts.items() if text or name not in model.model_fields}


class PreferHeader(BaseModel):
    prefer: str | None = Field(
        None, alias="Prefer", description="wait=N (up to 60): answer with the finished job if it ends in time"
    )


class RepeatHeader(BaseModel):
    idempotency_key: str | None = Field(
        None,
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="The same key with the same content returns what it made first, for 24 hours",
    )


class SubmitHeaders(PreferHeader, RepeatHeader):
    pass


def repeat_key(owner: str, key: str, form: SubmitForm, info: ImageInfo) -> Idempotency:
    """Hashes of the owner's Idempotency-Key and of all that the request holds."""
    content = form.model_dump(exclude={"image"}) | {"image": info.sha256, "filename": form.image.filename}
    return Idempotency(sha256_of(of_owner(owner, key)), sha256_of(json.dumps(content, sort_keys=True)))


def of_owner(owner: str, key: str) -> str:
    """Two owners may use the same key; a header holds no line end, so that none can spell another's."""
    return f"{owner}\n{key}" if owner else key


def preferred_wait_s(header: str | None, most_s: float) -> float:
    """Seconds of `Prefer: wait=N`; a preference that makes no sense is ignored. Source: RFC 7240."""
    for preference in (header or "").split(","):
        match = re.fullmatch(r"\s*wait\s*=\s*\"?([0-9]{1,9})\"?\s*(?:;.*)?", preference, re.IGNORECASE)
        if match:
            return min(float(match[1]), most_s)
    return 0.0


def sha256_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
