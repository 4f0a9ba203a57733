"""Tar archives as a stream, plain or packed by gzip or zstd: nothing is sought, nothing is kept."""

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import zstandard

from shared.errors import BrokenArchive, NoRegularFile, RequestError
from workers.unpack import BLOCK_BYTES, ArchiveLimits, Entry, clean_name, is_skipped

CHUNK_BYTES = 2**18
LARGEST_HEADER_BYTES = 2**20  # a path, or a block of attributes
LARGEST_WINDOW_BYTES = 2**27  # what zstd itself accepts unasked
SPARSE = b"S"
LONG_NAMES = {tarfile.GNUTYPE_LONGNAME: b"path", tarfile.GNUTYPE_LONGLINK: b"linkpath"}
ATTRIBUTES = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)


class Tar:
    """A tar on a file that can go back to its beginning."""

    def __init__(self, file: BinaryIO, kind: str, limits: ArchiveLimits) -> None:
        self._file, self._kind, self._limits = file, kind, limits

    def entries(self) -> Iterator[Entry]:
        entries = headers = 0
        self._file.seek(0)
        stream = _Stream(self._file, self._kind, self._limits)
        for header in _headers(stream, self._limits):
            headers += 1
            name, refused = clean_name(header.raw_name)
            if header.is_folder or is_skipped(name):
                self._limits.check_entries(entries, headers)
                continue
            entries += 1
            self._limits.check_entries(entries, headers)
            yield Entry(name, refused or header.refused, header.read)
        stream.drain()  # for the checksum behind it


class _Stream:
    """Unpacked bytes, counted; whatever the decoder raises is a broken archive."""

    def __init__(self, file: BinaryIO, kind: str, limits: ArchiveLimits) -> None:
        self._raw, self._limits = file, limits
        self._file: Any = file
        if kind == "tar.gz":
            self._file = gzip.GzipFile(fileobj=file, mode="rb")
        elif kind == "tar.zst":
            decoder = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW_BYTES)
            self._file = decoder.stream_reader(file, read_across_frames=True, closefd=False)
        self.at = 0

    def read(self, size: int) -> bytes:
        """Fewer bytes only at the end. Raises: BrokenArchive, UploadTooLarge"""
        parts = []
        while size:
            try:
                part = self._file.read(min(size, CHUNK_BYTES))
            except (EOFError, OSError, zlib.error, zstandard.ZstdError) as error:
                raise BrokenArchive(f"The archive cannot be unpacked further: {error}.") from error
            if not part:
                break
            parts.append(part)
            size -= len(part)
            self.at += len(part)
            self._limits.check_unpacked(self._raw.tell(), self.at)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def exactly(self, size: int) -> bytes:
        found = self.read(size)
        if len(found) < size:
            raise BrokenArchive("The archive ends in the middle of an entry.")
        return found

    def skip_to(self, offset: int) -> None:
        while self.at < offset:
            self.exactly(min(CHUNK_BYTES, offset - self.at))

    def drain(self) -> None:
        while self.read(CHUNK_BYTES):
            pass


class _Header:
    """One member, with what the headers before it say of it."""

    def __init__(self, stream: _Stream, info: tarfile.TarInfo, limits: ArchiveLimits, name: bytes) -> None:
        self._stream, self._limits = stream, limits
        self._info, self.raw_name = info, name
        self.start = stream.at
        self.sparse = info.type == SPARSE

    @property
    def is_folder(self) -> bool:
        return self._info.type == tarfile.DIRTYPE or self.raw_name.endswith(b"/")

    @property
    def refused(self) -> RequestError | None:
        if self.sparse:
            return NoRegularFile("The entry is a sparse file.")
        if self._info.type not in FILES:
            return NoRegularFile("The entry is a link, a device or something else that is no file.")
        return None

    @property
    def end(self) -> int:
        """Behind its data and their padding; links and the like have no data, whatever they say."""
        has_data = self._info.type in (*FILES, SPARSE) or self._info.type not in tarfile.SUPPORTED_TYPES
        return self.start + (_padded(self._info.size) if has_data else 0)

    def read(self) -> bytes:
        self._limits.check_entry(self._info.size)
        return self._stream.exactly(self._info.size)


def _padded(size: int) -> int:
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def _headers(stream: _Stream, limits: ArchiveLimits) -> Iterator[_Header]:
    """Raises: BrokenArchive"""
    given: dict[bytes, bytes] = {}  # by headers before the member that they are about
    while True:
        block = stream.read(BLOCK_BYTES)
        if len(block) < BLOCK_BYTES:
            raise BrokenArchive("The tar ends without its end mark: it was cut short.")
        if not any(block):
            return
        info = _parse(block)
        if info.type in LONG_NAMES:
            given[LONG_NAMES[info.type]] = _content(stream, info).rstrip(b"\0")
        elif info.type in ATTRIBUTES:
            given |= _attributes(_content(stream, info))
        elif info.type == tarfile.XGLTYPE:
            _content(stream, info)  # for all members; nothing in it is about their names or sizes
        else:
            if b"size" in given:
                info.size = _size(given[b"size"])
            if info.type == SPARSE:
                _skip_map(stream, block)
            name = given.get(b"path", info.name.encode("utf-8", "surrogateescape"))
            header = _Header(stream, info, limits, name)
            header.sparse |= any(key.startswith(b"GNU.sparse.") for key in given)
            given = {}
            yield header
            stream.skip_to(header.end)


def _parse(block: bytes) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise BrokenArchive(f"The tar has a damaged header: {error}.") from error
    if info.size < 0:
        raise BrokenArchive("The tar has an entry of negative size.")
    return info


def _content(stream: _Stream, info: tarfile.TarInfo) -> bytes:
    """Of a header that is about the next member."""
    if info.size > LARGEST_HEADER_BYTES:
        raise BrokenArchive(f"The tar has a header of {info.size:,} bytes.")
    return stream.exactly(_padded(info.size))[: info.size]


def _attributes(records: bytes) -> dict[bytes, bytes]:
    """`length key=value\\n`, where the length counts all of it. Source: POSIX pax. Raises: BrokenArchive"""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(records) and records[at]:
        digits, space, _ = records[at : at + 20].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        record = records[at : at + length]
        key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if not space or length < 5 or len(record) < length or not equals or record[-1:] != b"\n":
            raise BrokenArchive("The tar has a damaged block of attributes.")
        found[key] = value
        at += length
    return found


def _size(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > 18:
        raise BrokenArchive("The tar has an entry whose size is no number.")
    return int(digits)


def _skip_map(stream: _Stream, block: bytes) -> None:
    """Where an old sparse file has its holes; more blocks follow while the flag is set."""
    more = block[482]
    while more:
        more = stream.exactly(BLOCK_BYTES)[504]
