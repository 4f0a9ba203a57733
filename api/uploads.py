"""The uploads resource: large archives in pieces that go on where they broke off, by the tus protocol 1.0.

Source: https://tus.io/protocols/resumable-upload (core, creation, creation-with-upload, expiration, checksum,
termination).
"""

import base64
import binascii
import hashlib
import re
import time
from collections.abc import Iterator
from email.utils import format_datetime

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field

from api import problems
from api.archives import hashed, key, limited, pieces
from api.auth import owner
from api.checked import checked
from api.lookup import valid
from api.services import Services, services
from api.views import time_of
from shared import uploads
from shared.asked import clean_filename
from shared.batch_schemas import UploadInfo
from shared.errors import (
    ChecksumMismatch,
    FieldProblem,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    OffsetConflict,
    UnsupportedBody,
    UnsupportedTusVersion,
    UploadLocked,
    UploadTooLarge,
    UploadUnfinished,
)
from shared.ids import new_id
from shared.tables import UploadRow

VERSION = "1.0.0"
BODY = "application/offset+octet-stream"
EXTENSIONS = "creation,creation-with-upload,expiration,checksum,termination"
CHECKSUMS = ("sha256", "sha1", "md5")
METADATA_LIMIT = 4096  # characters
PIECE = "piece"  # the blob that waits for its checksum

api = APIBlueprint(
    "uploads", __name__, url_prefix="/v1/uploads", abp_tags=[Tag(name="uploads")],
    abp_responses=problems.RESPONSES,
)  # fmt: skip


class UploadPath(BaseModel):
    upload_id: str


class CreateHeaders(BaseModel):
    length: int | None = Field(None, alias="Upload-Length", ge=1, description="Bytes in all")
    metadata: str | None = Field(
        None,
        alias="Upload-Metadata",
        max_length=METADATA_LIMIT,
        description="Pairs of a name and a base64 text, separated by commas; `filename` names the archive",
    )


class AppendHeaders(BaseModel):
    offset: int | None = Field(None, alias="Upload-Offset", ge=0, description="Where this piece belongs")
    checksum: str | None = Field(
        None, alias="Upload-Checksum", max_length=200, description="Algorithm and base64 digest of this piece"
    )


@api.before_request
def _speaks_tus() -> None:
    """GET is for people, who send no such header."""
    if request.method not in ("OPTIONS", "GET") and request.headers.get("Tus-Resumable") != VERSION:
        raise UnsupportedTusVersion()


@api.after_request
def _tell(response: Response) -> Response:
    response.headers["Tus-Resumable"] = response.headers["Tus-Version"] = VERSION
    if request.method == "OPTIONS" and response.status_code < 300:
        response.headers["Tus-Max-Size"] = str(services().settings.max_archive_bytes)
        response.headers["Tus-Extension"] = EXTENSIONS
        response.headers["Tus-Checksum-Algorithm"] = ",".join(CHECKSUMS)
    return response


@api.post("", responses={"201": None})
@checked
def create(header: CreateHeaders) -> Response:
    """Announce an upload; a first piece may come along"""
    room = services()
    if header.length is None:
        raise _wrong("must say how many bytes will come", "Upload-Length")
    if header.length > room.settings.max_archive_bytes:
        raise UploadTooLarge(f"At most {room.settings.max_archive_bytes:,} bytes are accepted here.")
    room.pressure.admit_bytes()
    names = _metadata(header.metadata or "")
    upload_id = new_id()
    uploads.create(
        room.db, upload_id, owner=owner(), length=header.length, client_metadata=header.metadata,
        filename=clean_filename(names.get("filename") or names.get("name") or ""),
        keep_s=room.settings.upload_keep_s, most=room.settings.max_uploads,
    )  # fmt: skip
    row = uploads.find(room.db, upload_id, owner())
    if request.mimetype == BODY:
        _append(room, row, AppendHeaders.model_validate({"Upload-Offset": 0}))
    response = _state(room, upload_id, 201)
    response.headers["Location"] = f"/v1/uploads/{upload_id}"
    return response


@api.get("/<upload_id>", responses={"200": UploadInfo})
@checked
def look(path: UploadPath) -> Response:
    """Ask how far an upload is; HEAD answers with the same headers"""
    room, upload_id = services(), valid(path.upload_id)
    row = uploads.find(room.db, upload_id, owner())
    offset, length = _offset(room, row.id), row.length or 0
    body = UploadInfo(
        id=row.id, offset=offset, length=length, filename=row.filename, expires_at=time_of(row.expires_at)
    )
    response = Response(body.model_dump_json(), mimetype="application/json")
    response.headers.update(_headers(row, offset))
    response.headers["Upload-Length"] = str(length)
    if row.client_metadata:
        response.headers["Upload-Metadata"] = row.client_metadata
    return response


@api.patch("/<upload_id>", responses={"204": None})
@checked
def append(path: UploadPath, header: AppendHeaders) -> Response:
    """Send the next piece; what arrives before a broken connection is kept"""
    room, upload_id = services(), valid(path.upload_id)
    if request.mimetype != BODY:
        raise UnsupportedBody(f"The body must be {BODY}.")
    _append(room, uploads.find(room.db, upload_id, owner()), header)
    return _state(room, upload_id, 204)


@api.delete("/<upload_id>", responses={"204": None})
@checked
def terminate(path: UploadPath) -> Response:
    """Give an upload up"""
    room, upload_id = services(), valid(path.upload_id)
    uploads.find(room.db, upload_id, owner())
    with uploads.locked(room.db, upload_id) as lock:
        room.storage.erase(upload_id)
        lock.forget()
    return Response(status=204)


@api.post("/<upload_id>", responses={"204": None})
@checked
def overridden(path: UploadPath, header: AppendHeaders) -> Response:
    """PATCH or DELETE for clients that cannot send them, named by X-HTTP-Method-Override"""
    method = request.headers.get("X-HTTP-Method-Override", "").upper()
    views = {"PATCH": append, "DELETE": terminate}
    if method not in views:
        raise MethodNotAllowed()
    response: Response = views[method](upload_id=path.upload_id)
    return response


def _append(room: Services, row: UploadRow, header: AppendHeaders) -> None:
    """Write the request's body behind what is there."""
    if header.offset is None:
        raise _wrong("must say where this piece belongs", "Upload-Offset")
    room.pressure.admit_bytes()
    room_left = (row.length or 0) - header.offset
    request.max_content_length = max(0, room_left) + 1  # a stream refuses to be read up to its very limit
    with room.transfers.held(), uploads.locked(room.db, row.id) as lock:
        if header.offset != (offset := _offset(room, row.id)):
            raise OffsetConflict(f"The upload goes on at offset {offset}, not {header.offset}.")
        chunks = _held(limited(pieces(request.stream, request.content_length), room_left), lock, room)
        if header.checksum is not None:
            chunks = _verified(room, row.id, chunks, header.checksum)
        room.storage.append(key(row.id), offset, chunks)
        lock.renew(room.settings.upload_keep_s)


def _held(chunks: Iterator[bytes], lock: uploads.Lock, room: Services) -> Iterator[bytes]:
    """Nothing is written once the lock is lost: a connection that hung must not disturb the one after it."""
    renewed = time.monotonic()
    for chunk in chunks:
        if time.monotonic() - renewed > uploads.LOCK_S / 3:
            if not lock.renew(room.settings.upload_keep_s):
                raise UploadLocked(retry_after_s=1)
            renewed = time.monotonic()
        yield chunk


def _verified(room: Services, upload_id: str, chunks: Iterator[bytes], checksum: str) -> Iterator[bytes]:
    """The same bytes once all of them are in the store and have their checksum."""
    name, _, encoded = checksum.partition(" ")
    if name not in CHECKSUMS:
        raise _wrong(f"must be made by one of {', '.join(CHECKSUMS)}", "Upload-Checksum")
    piece, digest = f"{upload_id}/{PIECE}", hashlib.new(name, usedforsecurity=False)
    room.storage.delete(piece)
    try:
        room.storage.append(piece, 0, hashed(chunks, digest))
        if digest.digest() != _base64(encoded, "Upload-Checksum"):
            raise ChecksumMismatch()
        with room.storage.open(piece) as file:
            yield from pieces(file, None)
    finally:
        room.storage.delete(piece)


def _state(room: Services, upload_id: str, status: int) -> Response:
    row = uploads.find(room.db, upload_id, owner())
    return Response(status=status, headers=_headers(row, _offset(room, upload_id)))


def _headers(row: UploadRow, offset: int) -> dict[str, str]:
    expires = format_datetime(time_of(row.expires_at), usegmt=True)
    return {"Upload-Offset": str(offset), "Upload-Expires": expires}


def _offset(room: Services, upload_id: str) -> int:
    try:
        return room.storage.size(key(upload_id))
    except NotFound:  # not a byte so far
        return 0


def _metadata(header: str) -> dict[str, str]:
    """The pairs of Upload-Metadata.

    Raises: InvalidRequest
    """
    found = {}
    for pair in filter(None, header.split(",")):
        name, _, encoded = pair.strip(" ").partition(" ")
        if not re.fullmatch(r"[!-+\--~]+", name) or name in found:
            raise _wrong("names must be ASCII, without spaces and commas, each once", "Upload-Metadata")
        found[name] = _base64(encoded, "Upload-Metadata").decode(errors="replace")
    return found


def _base64(text: str, header: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _wrong("must be base64", header) from None


def _wrong(detail: str, header: str) -> InvalidRequest:
    return InvalidRequest(f"{header} {detail}.", errors=[FieldProblem(detail, f"/{header}")])


def take(room: Services, upload_id: str) -> UploadRow:
    """The upload as a batch may use it: complete, and nobody writes it.

    Raises: NotFound, UploadUnfinished
    """
    row = uploads.find(room.db, upload_id, owner())
    offset = _offset(room, upload_id)
    if offset < (row.length or 0):
        raise UploadUnfinished(f"{offset:,} of {row.length:,} bytes have arrived.")
    return row
