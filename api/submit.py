"""A submit: what it may say, and the one way from there to a job."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Self

from flask import Request as HttpRequest
from pydantic import BaseModel, Field, WithJsonSchema

from api.auth import owner
from api.checked import validate
from api.entry import enter, require, webhook_of
from api.multipart import Upload, read_form, whole
from api.services import Services, services
from shared import images
from shared.asked import Asked, clean_filename
from shared.idempotency import Idempotency, repeated
from shared.ids import new_id
from shared.images import ImageInfo
from shared.job_types import NewJob
from shared.language import detect
from shared.lifecycle import first_stage


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


def take(form: SubmitForm, repeat: str | None = None, custom_id: str | None = None) -> tuple[str, bool]:
    """Make a job of this request's form, or find the one that its Idempotency-Key made first; its id, and whether it is new.

    Raises: RequestError when the picture, the pipeline or the moment will not do; StorageUnavailable
    """
    room = services()
    info = images.inspect(form.image.data, room.limits)
    info.check_frame(form.frame)
    require(room, form.pipeline)
    key = repeat_key(owner(), repeat, form, info) if repeat else None
    if key and (first := repeated(room.db, key)):
        return first, False
    new = _new_job(room, form, info, custom_id)
    job_id = enter(room, new, images.sanitise(form.image.data, room.limits), key)
    return job_id, job_id == new.id


def _new_job(room: Services, form: SubmitForm, info: ImageInfo, custom_id: str | None) -> NewJob:
    return NewJob(
        id=new_id(),
        owner=owner(),
        pipeline=form.pipeline,
        question=form.question,
        lang=form.lang or detect(form.question),
        stage=first_stage(),
        answered=form.answer != "never",
        external=form.external,
        frame=form.frame,
        explain=None if form.explain == "none" else form.explain,
        age=form.age,
        sex=form.sex,
        site=form.site,
        client_metadata=form.metadata,
        filename=clean_filename(form.image.filename),
        media_type=info.media_type,
        sha256=info.sha256,
        size_bytes=info.size_bytes,
        width=info.width,
        height=info.height,
        custom_id=custom_id,
        expires_in_s=form.expires_in_s,
        webhook=webhook_of(room, form),
    )


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
