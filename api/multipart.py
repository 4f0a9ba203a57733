"""Reads multipart/form-data as it was sent: raw bytes, each name once, nothing guessed, nothing on disk."""

from dataclasses import dataclass
from io import BytesIO
from typing import IO

from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from api.checked import pointer
from shared.errors import FieldProblem, InvalidRequest

CHUNK_BYTES = 256 * 1024
TEXT_LIMIT_BYTES = 64 * 1024  # of one text field
MOST_PARTS = 32
# What a body may hold beside the picture: the longest question and metadata many times over.
OVERHEAD_BYTES = 512 * 1024


@dataclass(frozen=True)
class Upload:
    """A part with a file name."""

    filename: str
    data: bytes


@dataclass(frozen=True)
class Form:
    texts: dict[str, str]
    files: dict[str, Upload]


def read_form(content_type: str, stream: IO[bytes]) -> Form:
    """Parse the whole body.

    Raises: InvalidRequest; RequestEntityTooLarge from the stream, which counts
    """
    media_type, options = parse_options_header(content_type)
    boundary = options.get("boundary", "")
    if media_type != "multipart/form-data" or not 1 <= len(boundary) <= 200 or not boundary.isascii():
        raise InvalidRequest("The body must be multipart/form-data with a boundary.")
    reader = _Reader()
    try:
        reader.read(MultipartDecoder(boundary.encode(), max_parts=MOST_PARTS), stream)
    except ValueError as error:
        raise InvalidRequest("The body is not well-formed multipart/form-data.") from error
    return Form(reader.texts, reader.files)


class _Reader:
    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.files: dict[str, Upload] = {}

    def read(self, decoder: MultipartDecoder, stream: IO[bytes]) -> None:
        part: Field | File | None = None
        content = BytesIO()
        while not isinstance(event := decoder.next_event(), Epilogue):
            if isinstance(event, NeedData):
                decoder.receive_data(stream.read(CHUNK_BYTES) or None)
            elif isinstance(event, Field | File):
                part, content = event, BytesIO()
                self._admit(part.name)
            elif isinstance(event, Data) and part is not None:
                content.write(event.data)
                if isinstance(part, Field) and content.tell() > TEXT_LIMIT_BYTES:
                    raise wrong_field(part.name, f"is longer than {TEXT_LIMIT_BYTES:,} bytes")
                if not event.more_data:
                    self._store(part, content.getvalue())

    def _admit(self, name: str | None) -> None:
        if not name:
            raise InvalidRequest("A part of the body has no name.")
        if name in self.texts or name in self.files:
            raise wrong_field(name, "is given more than once")

    def _store(self, part: Field | File, content: bytes) -> None:
        if isinstance(part, File):
            self.files[part.name] = Upload(part.filename, content)
            return
        try:
            self.texts[part.name] = content.decode()
        except UnicodeDecodeError:
            raise wrong_field(part.name, "must be valid UTF-8, without lone surrogates") from None


def wrong_field(name: str, detail: str) -> InvalidRequest:
    return InvalidRequest(f"{name[:64]!r} {detail}.", errors=[FieldProblem(detail, pointer(name[:64]))])
