"""Reads multipart/form-data as it was sent: raw bytes, each name once, nothing guessed, no temporary files."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData

from api.checked import pointer
from shared.errors import FieldProblem, InvalidRequest

CHUNK_BYTES = 256 * 1024
TEXT_LIMIT_BYTES = 64 * 1024  # of one text field
MOST_PARTS = 32
# What a body may hold beside the picture: the longest question and metadata many times over.
OVERHEAD_BYTES = 512 * 1024

Chunks = Iterator[bytes]


@dataclass(frozen=True)
class Upload:
    """A part with a file name."""

    filename: str
    data: bytes


@dataclass(frozen=True)
class Form:
    """`kept` holds what each file's reader made of it."""

    texts: dict[str, str] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)


# Takes a part with a file name while it arrives: its file name, its chunks, and the form so far.
Reader = Callable[[str, Chunks, Form], Any]


def whole(filename: str, chunks: Chunks, form: Form) -> Upload:
    """The reader of files that fit into memory."""
    return Upload(filename, b"".join(chunks))


def read_form(content_type: str, stream: IO[bytes], files: Mapping[str, Reader]) -> Form:
    """Read the whole body; `files` says who reads which part with a file name.

    Raises: InvalidRequest; RequestEntityTooLarge from the stream, which counts; what a reader raises
    """
    media_type, options = parse_options_header(content_type)
    boundary = options.get("boundary", "")
    if media_type != "multipart/form-data" or not 1 <= len(boundary) <= 200 or not boundary.isascii():
        raise InvalidRequest("The body must be multipart/form-data with a boundary.")
    form = Form()
    for part, chunks in _Body(boundary, stream).parts():
        _admit(part, form, files)
        if isinstance(part, File):
            form.kept[part.name] = files[part.name](part.filename, chunks, form)
        else:
            form.texts[part.name] = _text(part.name, chunks)
    return form


class _Body:
    """The parts of a body, one after the other."""

    def __init__(self, boundary: str, stream: IO[bytes]) -> None:
        self._decoder = MultipartDecoder(boundary.encode(), max_parts=MOST_PARTS)
        self._stream = stream

    def parts(self) -> Iterator[tuple[Field | File, Chunks]]:
        """Each part with its chunks, which are gone once the next part is asked for."""
        while not isinstance(event := self._next(), Epilogue):
            if isinstance(event, Field | File):
                chunks = self._chunks()
                yield event, chunks
                for _ in chunks:  # what its reader left
                    pass

    def _chunks(self) -> Chunks:
        while isinstance(event := self._next(), Data):
            yield event.data
            if not event.more_data:
                return

    def _next(self) -> Event:
        try:
            while isinstance(event := self._decoder.next_event(), NeedData):
                self._decoder.receive_data(self._stream.read(CHUNK_BYTES) or None)
        except ValueError as error:  # a body that breaks off, too
            raise InvalidRequest("The body is not well-formed multipart/form-data.") from error
        return event


def _admit(part: Field | File, form: Form, files: Mapping[str, Reader]) -> None:
    if not part.name:
        raise InvalidRequest("A part of the body has no name.")
    if part.name in form.texts or part.name in form.kept:
        raise wrong_field(part.name, "is given more than once")
    if isinstance(part, File) and part.name not in files:
        raise wrong_field(part.name, "must not be a file")
    if isinstance(part, Field) and part.name in files:
        raise wrong_field(part.name, "must be a file with a name")


def _text(name: str, chunks: Chunks) -> str:
    content = bytearray()
    for chunk in chunks:
        content += chunk
        if len(content) > TEXT_LIMIT_BYTES:
            raise wrong_field(name, f"is longer than {TEXT_LIMIT_BYTES:,} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise wrong_field(name, "must be valid UTF-8, without lone surrogates") from None


def wrong_field(name: str, detail: str) -> InvalidRequest:
    return InvalidRequest(f"{name[:64]!r} {detail}.", errors=[FieldProblem(detail, pointer(name[:64]))])
