"""Zip archives, their directory read as a stream: zipfile would hold every entry's record in memory."""

import bz2
import stat
import struct
import zlib
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import BinaryIO

from shared.errors import (
    BrokenArchive,
    DamagedEntry,
    EncryptedEntry,
    NoRegularFile,
    RequestError,
    UploadTooLarge,
)
from workers.unpack import ENTRY_RATIO_FLOOR_BYTES, ArchiveLimits, Entry, clean_name, is_skipped

# Source: PKWARE APPNOTE 6.3.10, sections 4.3.7 to 4.3.16
END = struct.Struct("<4s4H2LH")
END64_LOCATOR = struct.Struct("<4sLQL")
END64 = struct.Struct("<4sQ2H2L4Q")
RECORD = struct.Struct("<4s4B4H3L5H2L")
LOCAL = struct.Struct("<4s5H3L2H")
LARGEST_COMMENT = 2**16
STORED, DEFLATED, BZIP2, AES = 0, 8, 12, 99
ENCRYPTED = 0x1
UNIX = 3
FULL_16, FULL_32 = 0xFFFF, 0xFFFFFFFF  # the value stands in a 64-bit field elsewhere
FURTHEST = 2**64 - 1
SLACK_BYTES = 2**16  # what packing may add to what cannot be packed
DIRECTORY_CHUNK = 2**16


@dataclass(slots=True)
class Record:
    """An entry as the directory tells of it."""

    raw_name: bytes
    method: int
    flags: int
    crc: int
    packed: int
    unpacked: int
    offset: int  # of its local header, in the file
    mode: int  # of a Unix file, or 0


@dataclass(frozen=True)
class End:
    """Where the directory lies, and how many entries it claims to have."""

    start: int
    stop: int
    claimed: int
    shift: int  # bytes before the archive's own beginning


class Zip:
    """A zip on a file that can seek."""

    def __init__(self, file: BinaryIO, limits: ArchiveLimits) -> None:
        self._file, self._limits = file, limits
        self._overlapping: frozenset[int] | None = None

    def entries(self) -> Iterator[Entry]:
        entries = headers = unpacked = packed = 0
        if self._overlapping is None:
            self._overlapping = _overlapping(self.records(), self._limits.max_headers)
        for place, record in enumerate(self.records()):
            headers += 1
            name, refused = clean_name(record.raw_name)
            if stat.S_ISDIR(record.mode) or record.raw_name.endswith((b"/", b"\\")) or is_skipped(name):
                self._limits.check_entries(entries, headers)
                continue
            entries += 1
            unpacked += min(record.unpacked, self._limits.max_entry_bytes)  # more is never unpacked
            packed += record.packed
            self._limits.check_entries(entries, headers)
            self._limits.check_unpacked(packed, unpacked)
            if place in self._overlapping:
                refused = refused or DamagedEntry("The entry overlaps another one.")
            refused = refused or _refused(record)

            def read(record: Record = record) -> bytes:
                return self._read(record)

            yield Entry(name, refused, read)

    def records(self) -> Iterator[Record]:
        """The directory, some kilobytes at a time.

        Raises: BrokenArchive
        """
        end = _find_end(self._file)
        directory = _Directory(self._file, end.start, end.stop)
        found = 0
        while not directory.at_end:
            fields = RECORD.unpack(directory.read(RECORD.size))
            if fields[0] != b"PK\x01\x02":
                raise BrokenArchive("The zip's directory is damaged.")
            name_end, extra_end = fields[12], fields[12] + fields[13]
            rest = directory.read(extra_end + fields[14])  # the last part is a comment
            unpacked, packed, offset = fields[11], fields[10], fields[18]
            if FULL_32 in (unpacked, packed, offset):
                unpacked, packed, offset = _sizes(rest[name_end:extra_end], unpacked, packed, offset)
            mode = fields[17] >> 16 if fields[2] == UNIX else 0
            found += 1
            # Method, flags and checksum stand between the versions and the sizes.
            yield Record(
                rest[:name_end], fields[6], fields[5], fields[9], packed, unpacked, offset + end.shift, mode
            )
        if found != end.claimed and found & FULL_16 != end.claimed:
            raise BrokenArchive(f"The zip's directory has {found:,} entries and claims {end.claimed:,}.")

    def _read(self, record: Record) -> bytes:
        """Raises: DamagedEntry, UploadTooLarge"""
        self._limits.check_entry(record.unpacked)
        if record.packed > self._limits.max_entry_bytes + SLACK_BYTES:
            raise UploadTooLarge(f"The entry has {record.packed:,} bytes in the archive.")
        if record.unpacked > max(ENTRY_RATIO_FLOOR_BYTES, self._limits.max_ratio * record.packed):
            raise UploadTooLarge(f"The entry unpacks to more than {self._limits.max_ratio} times its size.")
        packed = self._packed(record)
        data = _unpack(record, packed)
        if len(data) != record.unpacked or zlib.crc32(data) != record.crc:
            raise DamagedEntry("The entry is not what the directory says: its length or checksum differs.")
        return data

    def _packed(self, record: Record) -> bytes:
        self._file.seek(record.offset)
        header = self._file.read(LOCAL.size)
        if len(header) < LOCAL.size or not header.startswith(b"PK\x03\x04"):
            raise DamagedEntry("There is no entry where the directory says.")
        name_length, extra_length = LOCAL.unpack(header)[9:]
        if self._file.read(name_length) != record.raw_name:
            raise DamagedEntry("The entry has another name than the directory says.")
        self._file.seek(extra_length, 1)
        packed = self._file.read(record.packed)
        if len(packed) < record.packed:
            raise DamagedEntry("The entry ends before it is complete.")
        return packed


class _Directory:
    """Reads between two offsets of a file whose position others move."""

    def __init__(self, file: BinaryIO, start: int, stop: int) -> None:
        self._file, self._next, self._stop = file, start, stop
        self._chunk, self._at = b"", 0

    @property
    def at_end(self) -> bool:
        return self._at == len(self._chunk) and self._next >= self._stop

    def read(self, size: int) -> bytes:
        if self._at + size > len(self._chunk):
            self._file.seek(self._next)
            more = self._file.read(min(DIRECTORY_CHUNK + size, self._stop - self._next))
            self._next += len(more)
            self._chunk, self._at = self._chunk[self._at :] + more, 0
        part = self._chunk[self._at : self._at + size]
        if len(part) < size:
            raise BrokenArchive("The zip's directory is cut short.")
        self._at += size
        return part


def _find_end(file: BinaryIO) -> End:
    """Raises: BrokenArchive"""
    length = file.seek(0, 2)
    start = max(0, length - END.size - LARGEST_COMMENT)
    file.seek(start)
    tail = file.read()
    found = tail.rfind(b"PK\x05\x06")
    if found < 0 or found + END.size > len(tail):
        raise BrokenArchive("The zip has no directory: it was cut short.")
    _, disk, first_disk, _, claimed, size, offset, _ = END.unpack_from(tail, found)
    at = start + found
    if FULL_32 in (size, offset) or claimed == FULL_16:
        at, claimed, size, offset = _find_end64(file, at) or (at, claimed, size, offset)
    elif disk or first_disk:
        raise BrokenArchive("The zip is one part of several.")
    shift = at - size - offset
    if shift < 0:
        raise BrokenArchive("The zip's directory is not where its end says.")
    return End(offset + shift, at, claimed, shift)


def _find_end64(file: BinaryIO, end: int) -> tuple[int, int, int, int] | None:
    """Offset of the 64-bit end, entries, size and offset of the directory; None if there is none."""
    if end < END64_LOCATOR.size + END64.size:
        return None
    file.seek(end - END64_LOCATOR.size)
    if file.read(4) != b"PK\x06\x07":
        return None
    # Where it points may be wrong by what was put before the archive; it stands right before its locator.
    at = end - END64_LOCATOR.size - END64.size
    file.seek(at)
    fields = END64.unpack(file.read(END64.size))
    if fields[0] != b"PK\x06\x06":
        raise BrokenArchive("The zip's 64-bit directory end is damaged.")
    return at, fields[7], fields[8], fields[9]


def _sizes(extra: bytes, unpacked: int, packed: int, offset: int) -> tuple[int, int, int]:
    """The 64-bit values of those that are full. Raises: BrokenArchive"""
    values = [unpacked, packed, offset]
    full = [place for place, value in enumerate(values) if value == FULL_32]
    at = 0
    while full and at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            if length < 8 * len(full) or at + 4 + length > len(extra):
                raise BrokenArchive("The zip's directory has a damaged 64-bit field.")
            for place, value in zip(full, struct.unpack_from(f"<{len(full)}Q", extra, at + 4), strict=True):
                values[place] = value
            break
        at += 4 + length
    return values[0], values[1], values[2]


def _refused(record: Record) -> RequestError | None:
    if stat.S_IFMT(record.mode) and not stat.S_ISREG(record.mode):
        return NoRegularFile("The entry is a link or a device.")
    if record.flags & ENCRYPTED or record.method == AES:
        return EncryptedEntry()
    if record.method not in (STORED, DEFLATED, BZIP2):
        return DamagedEntry(f"The entry is packed by method {record.method}, which is not supported.")
    return None


def _unpack(record: Record, packed: bytes) -> bytes:
    """At most one byte more than the directory says. Raises: DamagedEntry"""
    most = record.unpacked + 1
    try:
        if record.method == DEFLATED:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, most)
        if record.method == BZIP2:
            return bz2.BZ2Decompressor().decompress(packed, most)
    except (zlib.error, OSError, ValueError) as error:
        raise DamagedEntry("The entry cannot be unpacked.") from error
    return packed


def _overlapping(records: Iterator[Record], most: int) -> frozenset[int]:
    """The places in the directory of entries that reach into the next one: the stuff of zip bombs.

    Eight bytes an entry and not a record each, since there may be many.
    """
    starts, ends = array("Q"), array("Q")
    with suppress(BrokenArchive):  # whoever reads the entries comes to the same place
        for record in islice(records, most):
            starts.append(min(record.offset, FURTHEST))
            # At the least: what its local header has beside the name is left out.
            ends.append(min(record.offset + LOCAL.size + len(record.raw_name) + record.packed, FURTHEST))
    order = sorted(range(len(starts)), key=starts.__getitem__)
    return frozenset(one for one, following in pairwise(order) if ends[one] > starts[following])
