"""What a request for a batch may hold: an archive or a finished upload, a manifest, and every entry's defaults."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated, Self

from flask import Request as HttpRequest
from pydantic import AfterValidator, Field, PrivateAttr, WithJsonSchema

from api.archives import Arrived, forget, hashed, limited, pieces, receive
from api.checked import pointer, validate
from api.entry import require
from api.listing import an_id
from api.multipart import OVERHEAD_BYTES, Chunks, Form, Reader, read_form, wrong_field
from api.services import Services, services
from api.submit import given
from shared.asked import Asked
from shared.errors import FieldProblem, InvalidRequest, LengthRequired, UnsupportedBody
from shared.ids import new_id

MANIFEST_LIMIT_BYTES = 32 * 2**20
MANIFESTS = {".csv": "manifest.csv", ".jsonl": "manifest.jsonl"}  # by suffix: the blob's name
RAW_TYPES = frozenset(
    {
        "application/zip", "application/x-zip-compressed", "application/x-tar", "application/x-gtar",
        "application/gzip", "application/x-gzip", "application/zstd", "application/octet-stream",
    }
)  # fmt: skip
FILE = WithJsonSchema({"type": "string", "format": "binary"})


@dataclass(frozen=True)
class Manifest:
    """A manifest in the store, beside the archive whose own it replaces."""

    name: str
    sha256: str


class BatchForm(Asked):
    """An archive and what is asked of every entry, unless its manifest says otherwise.

    The archive may also be the raw body, with the other fields in the query.
    """

    archive: Annotated[Arrived, FILE] | None = Field(None, description="zip, tar, tar.gz or tar.zst")
    manifest: Annotated[Manifest, FILE] | None = Field(
        None, description="manifest.csv or manifest.jsonl; replaces the one in the archive"
    )
    upload_id: Annotated[str, AfterValidator(an_id)] | None = Field(
        None, description="A finished upload, instead of an archive"
    )
    filename: str | None = Field(None, max_length=1000, description="Names the archive")
    _id: str = PrivateAttr(default="")
    _defaults: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def id(self) -> str:
        """Under which the files of this request lie in the store."""
        return self._id

    @property
    def defaults(self) -> dict[str, str]:
        """A job's fields as they were given, which is how they are checked again beside a manifest's."""
        return self._defaults

    @classmethod
    def read(cls, request: HttpRequest) -> Self:
        """Bring the request's files to the store; nothing of them is left if one field is refused.

        Raises: InvalidRequest, UnsupportedArchive, UploadTooLarge, LengthRequired, UnsupportedBody
        """
        room, batch_id = services(), new_id()
        request.max_content_length = room.settings.max_archive_bytes + MANIFEST_LIMIT_BYTES + OVERHEAD_BYTES
        try:
            with room.transfers.held():
                sent = _Sent(room, batch_id, cls).read(request)
            form = validate(cls, given(cls, sent.texts) | sent.kept)
            if form.webhook_url is not None:
                raise wrong_field("webhook_url", "is for single jobs; wait for the batch instead")
            if (form.archive is None) == (form.upload_id is None):
                raise InvalidRequest(
                    "Send an archive, or the upload_id of a finished upload.",
                    errors=[
                        FieldProblem("an archive or an upload_id is needed, not both", pointer("archive"))
                    ],
                )
        except BaseException:
            forget(room.storage, batch_id)
            raise
        form._id = batch_id
        asked = given(cls, sent.texts)
        form._defaults = {name: text for name, text in asked.items() if name in Asked.model_fields}
        return form


class _Sent:
    """One request on its way into the store."""

    def __init__(self, room: Services, batch_id: str, fields: type[BatchForm]) -> None:
        self._room, self._id, self._fields = room, batch_id, fields

    def read(self, request: HttpRequest) -> Form:
        if request.mimetype == "multipart/form-data":
            if request.args:
                raise InvalidRequest("A form's fields stand in its body, not in the query.")
            files: dict[str, Reader] = {"archive": self._archive, "manifest": self._manifest}
            return read_form(request.content_type or "", request.stream, files)
        if repeated := [name for name, values in request.args.lists() if len(values) > 1]:
            raise wrong_field(repeated[0], "is given more than once")
        form = Form(dict(request.args.items()))
        for name in ("archive", "manifest"):
            if name in form.texts:
                raise wrong_field(name, "must be a file")
        if request.content_length or request.mimetype in RAW_TYPES:
            form.kept["archive"] = self._archive("", self._raw(request), form)
        return form

    def _raw(self, request: HttpRequest) -> Iterator[bytes]:
        if request.mimetype not in RAW_TYPES:
            raise UnsupportedBody(
                "The body must be multipart/form-data, or an archive with its media type, such as application/zip."
            )
        if request.content_length is None:
            raise LengthRequired()
        return pieces(request.stream, request.content_length)

    def _archive(self, filename: str, chunks: Chunks, form: Form) -> Arrived:
        """Fields that came before the archive are checked first: nobody waits for gigabytes to be refused."""
        known = validate(self._fields, given(self._fields, form.texts))
        require(self._room, known.pipeline)
        if form.texts.get("upload_id"):
            raise wrong_field("upload_id", "stands for an archive, so that none may be sent with it")
        if filename:
            form.texts.setdefault("filename", filename[:1000])
        return receive(self._room, self._id, chunks)

    def _manifest(self, filename: str, chunks: Chunks, form: Form) -> Manifest:
        name = MANIFESTS.get(PurePath(filename).suffix.lower())
        if name is None:
            raise wrong_field("manifest", "must be named .csv or .jsonl")
        digest = hashlib.sha256()
        self._room.storage.append(
            f"{self._id}/{name}", 0, hashed(limited(chunks, MANIFEST_LIMIT_BYTES), digest)
        )
        return Manifest(name, digest.hexdigest())
