"""Makes a zip while it is sent, of any number of entries: not even its directory grows in memory.

Python's own zipfile keeps half a kilobyte per entry until the end. Source of the layout: PKWARE's APPNOTE 6.3.
"""

import struct
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

VERSION = 45  # zip64
UNIX = 3 << 8
SIZES_FOLLOW = 1 << 3  # a descriptor behind the content has checksum and sizes
STORED, DEFLATED = 0, 8
FILE = 0o100644 << 16
MOST = 0xFFFFFFFF  # what 32 bits hold; in its place it says that the 64-bit field holds the value
MOST_ENTRIES = 0xFFFF
SPOOL_BYTES = 1 << 20  # of directory that may lie in memory


class ZipStream:
    """Entries one after the other, then the end. Names are ASCII."""

    def __init__(self) -> None:
        self._offset = self._entries = 0
        self._directory = tempfile.SpooledTemporaryFile(SPOOL_BYTES)  # noqa: SIM115, __exit__ closes it
        now = time.gmtime()
        self._time = now.tm_hour << 11 | now.tm_min << 5 | now.tm_sec // 2
        self._date = (now.tm_year - 1980) << 9 | now.tm_mon << 5 | now.tm_mday

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._directory.close()

    def entry(self, name: str, content: Iterable[bytes], *, deflate: bool) -> Iterator[bytes]:
        """One file. Its sizes are 64 bits wide, since nobody knows them yet."""
        start, method = self._offset, DEFLATED if deflate else STORED
        fields = (VERSION, SIZES_FOLLOW, method, self._time, self._date, 0, MOST, MOST, len(name), 20)
        header = struct.pack("<4s5H3L2H", b"PK\x03\x04", *fields)
        yield self._sent(header + name.encode("ascii") + struct.pack("<2H2Q", 1, 16, 0, 0))
        crc = size = 0
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS) if deflate else None
        begin = self._offset
        for chunk in content:
            crc, size = zlib.crc32(chunk, crc), size + len(chunk)
            if data := packer.compress(chunk) if packer else chunk:
                yield self._sent(data)
        if packer:
            yield self._sent(packer.flush())
        packed = self._offset - begin
        yield self._sent(struct.pack("<4sL2Q", b"PK\x07\x08", crc, packed, size))
        self._note(name, method, crc, packed, size, start)

    def _note(self, name: str, method: int, crc: int, packed: int, size: int, start: int) -> None:
        """The entry's line in the directory; 64-bit fields stand only for what 32 bits cannot hold."""
        wide = [value for value in (size, packed, start) if value >= MOST]
        extra = struct.pack(f"<2H{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
        narrow = [min(value, MOST) for value in (packed, size, start)]
        fields = (UNIX | VERSION, VERSION, SIZES_FOLLOW, method, self._time, self._date, crc, *narrow[:2])
        lengths = (len(name), len(extra), 0, 0, 0)
        line = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *fields, *lengths, FILE, narrow[2])
        self._directory.write(line + name.encode("ascii") + extra)
        self._entries += 1

    def end(self) -> Iterator[bytes]:
        """The directory. A zip that breaks off before has none, so that every reader sees it."""
        start = self._offset
        self._directory.seek(0)
        while chunk := self._directory.read(1 << 16):
            yield self._sent(chunk)
        size, at, entries = self._offset - start, self._offset, self._entries
        if entries >= MOST_ENTRIES or start >= MOST or size >= MOST:
            fields = (44, VERSION, VERSION, 0, 0, entries, entries, size, start)
            yield self._sent(struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", *fields))
            yield self._sent(struct.pack("<4sLQL", b"PK\x06\x07", 0, at, 1))
        count = min(entries, MOST_ENTRIES)
        tail = (0, 0, count, count, min(size, MOST), min(start, MOST), 0)
        yield self._sent(struct.pack("<4s4H2LH", b"PK\x05\x06", *tail))

    def _sent(self, data: bytes) -> bytes:
        self._offset += len(data)
        return data
