"""Where JPEG, PNG, WebP and TIFF keep their parts: headers read, and metadata dropped, without decoding."""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from shared.errors import UnreadableImage

MAX_SCANS = 100  # a progressive JPEG has about 10; each further scan costs a pass over all pixels
MAX_PARTS = 50_000  # segments or chunks; an encoder writes one for every 8 kB or more

SOI, EOI, SOS, APP0, EXIF_APP1, ADOBE_APP14 = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xEE
ENTROPY = 0  # not a marker: what stands between a scan's header and the next marker
FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
NEEDED_SEGMENTS = FRAME_HEADERS | {0xC4, 0xCC, 0xDB, 0xDC, 0xDD, SOS}  # and Huffman, quantisers, restarts
NEXT_MARKER = re.compile(rb"\xff[^\x00\xff]")
NEXT_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")

PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_NEEDED = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
WEBP_NEEDED = {b"VP8X", b"ALPH", b"VP8 ", b"VP8L", b"ANIM", b"ANMF"}
WEBP_ANIMATED, WEBP_EXIF, WEBP_XMP, WEBP_ICC = 0x02, 0x08, 0x04, 0x20


@dataclass(frozen=True)
class Header:
    width: int
    height: int
    orientation: int = 1  # EXIF's 1 to 8
    frames: int = 1
    many_scans: bool = False  # a JPEG that its decoder passes over more than once

    @property
    def upright(self) -> tuple[int, int]:
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def _orientation(exif: bytes) -> int:
    """The orientation in the first directory of an EXIF block; 1 if it is absent or damaged."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (offset,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, offset)
        for at in range(offset + 2, offset + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", exif, at)
            if tag == 0x0112:
                (value,) = struct.unpack_from(order + ("H" if kind == 3 else "I"), exif, at + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def _exif(orientation: int) -> bytes:
    """The smallest EXIF block: one directory with one entry."""
    return struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)


# JPEG


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of what each segment holds, up to the end of the picture.

    Raises: UnreadableImage
    """
    at = 2
    for _ in range(MAX_PARTS):
        if not (found := NEXT_MARKER.search(data, at)):
            break
        marker, at = data[found.end() - 1], found.end()
        if marker == EOI:
            return
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # these stand alone
            continue
        if marker == SOI or at + 2 > len(data):
            break
        end = at + (data[at] << 8 | data[at + 1])
        if end < at + 2 or end > len(data):
            break
        yield marker, at + 2, end
        at = end
        if marker == SOS:
            if not (found := NEXT_MARKER_IN_SCAN.search(data, at)):
                break
            yield ENTROPY, at, found.start()
            at = found.start()
    raise UnreadableImage("The JPEG picture ends before it is complete, or has far too many parts.")


def jpeg_header(data: bytes) -> Header:
    width = height = components = 0
    orientation = None
    many_scans = False
    for marker, start, end in _jpeg_segments(data):
        if marker in FRAME_HEADERS:
            height, width, components = struct.unpack_from(">xHHB", data, start)
            many_scans = marker not in (0xC0, 0xC1)
        elif marker == EXIF_APP1 and orientation is None and data.startswith(b"Exif\0\0", start):
            orientation = _orientation(data[start + 6 : end])
        elif marker == SOS:
            many_scans = many_scans or data[start] < components
            break
    return Header(width, height, orientation or 1, many_scans=many_scans)


def strip_jpeg(data: bytes, orientation: int) -> bytes:
    """Keep what the decoder needs; JFIF and Adobe markers, which fix the colours, are written anew."""
    parts = [b"\xff\xd8"]
    if orientation != 1:
        exif = b"Exif\0\0" + _exif(orientation)
        parts.append(struct.pack(">BBH", 0xFF, EXIF_APP1, len(exif) + 2) + exif)
    scans = 0
    for marker, start, end in _jpeg_segments(data):
        if marker == APP0 and data.startswith(b"JFIF\0", start):
            parts.append(b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0")
        elif marker == ADOBE_APP14 and data.startswith(b"Adobe", start) and end - start >= 12:
            parts.append(b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + data[start + 11 : start + 12])
        elif marker == ENTROPY:
            parts.append(data[start:end])
        elif marker in NEEDED_SEGMENTS:
            scans += marker == SOS
            parts.append(bytes((0xFF, marker)) + data[start - 2 : end])
    if not 0 < scans <= MAX_SCANS:
        raise UnreadableImage(f"The JPEG picture has no scans, or more than {MAX_SCANS}.")
    return b"".join(parts) + b"\xff\xd9"


# PNG


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of every chunk's content, up to IEND. Raises: UnreadableImage"""
    at = len(PNG_START)
    for _ in range(MAX_PARTS):
        if at + 12 > len(data):
            break
        (length,) = struct.unpack_from(">I", data, at)
        kind, start, end = data[at + 4 : at + 8], at + 8, at + 8 + length
        if end + 4 > len(data):
            break
        yield kind, start, end
        if kind == b"IEND":
            return
        at = end + 4
    raise UnreadableImage("The PNG picture ends before it is complete, or has far too many parts.")


def png_header(data: bytes) -> Header:
    if data[12:16] != b"IHDR":
        raise UnreadableImage()
    width, height = struct.unpack_from(">II", data, 16)
    orientation, frames = 1, 1
    for kind, start, end in _png_chunks(data):
        if kind == b"eXIf":
            orientation = _orientation(data[start:end])
        elif kind == b"acTL":
            (frames,) = struct.unpack_from(">I", data, start)
    return Header(width, height, orientation, max(frames, 1))


def strip_png(data: bytes, orientation: int) -> bytes:
    """Keep what the decoder needs; of an animated PNG the still picture that it holds for old viewers."""
    parts = [PNG_START]
    for kind, start, end in _png_chunks(data):
        if kind in PNG_NEEDED:
            parts.append(data[start - 8 : end + 4])
        if kind == b"IHDR" and orientation != 1:
            parts.append(_png_chunk(b"eXIf", _exif(orientation)))
    return b"".join(parts)


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


# WebP


def _webp_chunks(data: bytes, at: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of every chunk's content. Raises: UnreadableImage"""
    for _ in range(MAX_PARTS):
        if at >= stop:
            return
        if at + 8 > stop:
            break
        (length,) = struct.unpack_from("<I", data, at + 4)
        if at + 8 + length > stop:
            break
        yield data[at : at + 4], at + 8, at + 8 + length
        at += 8 + length + (length & 1)
    raise UnreadableImage("The WebP picture ends before it is complete, or has far too many parts.")


def _webp_file(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    (length,) = struct.unpack_from("<I", data, 4)
    if 8 + length > len(data):
        raise UnreadableImage("The WebP picture ends before it is complete.")
    return _webp_chunks(data, 12, 8 + length)


def webp_header(data: bytes) -> Header:
    size: tuple[int, int] | None = None
    orientation, frames = 1, 0
    for kind, start, end in _webp_file(data):
        frames += kind == b"ANMF"
        if kind == b"EXIF":
            orientation = _orientation(data[start:end].removeprefix(b"Exif\0\0"))
        elif size is None:
            size = _webp_size(kind, data, start)
    return Header(*(size or (0, 0)), orientation, max(frames, 1))


def _webp_size(kind: bytes, data: bytes, start: int) -> tuple[int, int] | None:
    """Width and height, where this chunk states them. Source: RFC 9649"""
    if kind == b"VP8X":
        width, height = data[start + 4 : start + 7], data[start + 7 : start + 10]
        return int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1
    if kind == b"VP8 ":
        width_and_scale, height_and_scale = struct.unpack_from("<HH", data, start + 6)
        return width_and_scale & 0x3FFF, height_and_scale & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, start + 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None


def strip_webp(data: bytes, orientation: int) -> bytes:
    parts = []
    for kind, start, end in _webp_file(data):
        if kind not in WEBP_NEEDED:
            continue
        content = data[start:end]
        if kind == b"VP8X":
            flags = content[0] & ~(WEBP_EXIF | WEBP_XMP | WEBP_ICC) | (WEBP_EXIF if orientation != 1 else 0)
            content = bytes((flags, 0, 0, 0)) + content[4:10]
        elif kind == b"ANMF":  # sixteen bytes, then chunks of its own
            inner = _webp_chunks(data, start + 16, end)
            content = content[:16] + b"".join(
                _webp_chunk(name, data[a:b]) for name, a, b in inner if name in WEBP_NEEDED
            )
        parts.append(_webp_chunk(kind, content))
    if orientation != 1:
        parts.append(_webp_chunk(b"EXIF", _exif(orientation)))
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _webp_chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) & 1)


# TIFF


def tiff_frames(data: bytes, enough: int) -> int:
    """How many directories are chained; Pillow would parse each, and they may overlap by the thousand."""
    order = "<" if data[:2] == b"II" else ">"
    head, count, entry_bytes, offset = (8, "Q", 20, "Q") if 43 in data[2:4] else (4, "H", 12, "I")
    seen: set[int] = set()
    try:
        (at,) = struct.unpack_from(order + offset, data, head)
        while at and at not in seen and len(seen) <= enough:
            seen.add(at)
            (entries,) = struct.unpack_from(order + count, data, at)
            (at,) = struct.unpack_from(
                order + offset, data, at + struct.calcsize(count) + entry_bytes * entries
            )
    except (struct.error, OverflowError):
        pass  # the chain ends where the file does
    return len(seen)
