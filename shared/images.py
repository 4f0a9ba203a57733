"""Untrusted bytes in, facts or pixels out, within limits; and bytes out that carry no metadata."""

import hashlib
import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from shared import dicom
from shared.errors import ServiceError, UnreadableImage, UnsupportedImage, UploadTooLarge

Pixels = NDArray[np.uint8]

# Damaged tags make Pillow warn; the picture is judged by its pixels. Set once here, since a filter that is
# set around a call is shared by every thread that decodes meanwhile.
warnings.filterwarnings("ignore", module=r"PIL\.")

MAX_SCANS = 100  # a progressive JPEG has about 10; each further scan costs a pass over all pixels
MAX_PARTS = 50_000  # segments or chunks; an encoder writes one for every 8 kB or more
PILLOW_NAMES = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/webp": "WEBP",
    "image/tiff": "TIFF",
    "image/bmp": "BMP",
}
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

SOI, EOI, SOS, APP0, EXIF_APP1, ADOBE_APP14 = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xEE
ENTROPY = 0  # not a marker: what stands between a scan's header and the next marker
FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
NEEDED_SEGMENTS = FRAME_HEADERS | {0xC4, 0xCC, 0xDB, 0xDC, 0xDD, SOS}  # and Huffman, quantisers, restarts
NEXT_MARKER = re.compile(rb"\xff[^\x00\xff]")
NEXT_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
# What libjpeg fills with grey and only warns about. Its other warnings leave the pixels whole.
DAMAGE = re.compile(
    "premature end|bad huffman|bad arith|found marker|inconsistent progression", re.IGNORECASE
)

PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_NEEDED = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
WEBP_NEEDED = {b"VP8X", b"ALPH", b"VP8 ", b"VP8L", b"ANIM", b"ANMF"}
WEBP_ANIMATED, WEBP_EXIF, WEBP_XMP, WEBP_ICC = 0x02, 0x08, 0x04, 0x20


@dataclass(frozen=True)
class Limits:
    """What one picture may cost; the settings fill it."""

    max_bytes: int = 20 * 2**20
    max_pixels: int = 50_000_000  # of one frame, checked before anything is decoded
    max_frames: int = 2_000  # a picture with more is an archive in disguise

    def check(self, width: int, height: int, frames: int = 1) -> None:
        """Raises: UnreadableImage, UploadTooLarge"""
        if width < 1 or height < 1 or frames < 1:
            raise UnreadableImage("The picture has no pixels.")
        if width * height > self.max_pixels:
            raise UploadTooLarge(
                f"The picture has {width} x {height} pixels; {self.max_pixels:,} are allowed."
            )
        if frames > self.max_frames:
            raise UploadTooLarge(f"The picture has more than {self.max_frames:,} frames.")


@dataclass(frozen=True)
class ImageInfo:
    """What the header says, read without decoding; width and height are those of the upright picture."""

    media_type: str
    width: int
    height: int
    frames: int
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class _Header:
    width: int
    height: int
    orientation: int = 1  # EXIF's 1 to 8
    frames: int = 1
    many_scans: bool = False  # a JPEG that its decoder passes over more than once

    @property
    def upright(self) -> tuple[int, int]:
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def media_type(data: bytes) -> str:
    """The kind of picture, from its bytes alone: names and declared types are the client's word.

    Raises: UnreadableImage when empty, UnsupportedImage
    """
    if not data:
        raise UnreadableImage("The file is empty.")
    if dicom.is_dicom(data):  # first, since its preamble may look like another format
        return "application/dicom"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(PNG_START):
        return "image/png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[:4] in TIFF_STARTS:
        return "image/tiff"
    if data.startswith(b"BM"):
        return "image/bmp"
    raise UnsupportedImage()


def inspect(data: bytes, limits: Limits) -> ImageInfo:
    """Read and check the header; no pixel is decoded.

    Raises: UnsupportedImage, UnreadableImage, UploadTooLarge
    """
    kind = _admit(data, limits)
    header = _header(kind, data, limits)
    limits.check(header.width, header.height, header.frames)
    width, height = header.upright
    return ImageInfo(kind, width, height, header.frames, hashlib.sha256(data).hexdigest(), len(data))


def decode(data: bytes, limits: Limits, *, at_least_px: int | None = None) -> Pixels:
    """The upright picture as 8-bit RGB; of several frames the first.

    Transparent areas become white, as on the page that shows the picture; black would look like the dark
    corners of a dermatoscope. `at_least_px` lets a large JPEG be decoded at a smaller scale, whose shorter
    side is still that long; other formats ignore it. Colour profiles are not applied.

    Shapes: (H, W, 3) uint8, C-contiguous
    Raises: UnsupportedImage, UnreadableImage, UploadTooLarge
    """
    kind = _admit(data, limits)
    if kind == "image/jpeg":
        return _decode_jpeg(data, limits, at_least_px)
    if kind == "application/dicom":
        return dicom.decode(data, limits)
    header = _header(kind, data, limits)
    limits.check(header.width, header.height)
    if kind == "image/png":
        data = _strip_png(data, 1)  # what Pillow is not shown cannot hurt it, nor animate the picture
    return _upright(_decode_with_pillow(kind, data, limits), header.orientation)


def sanitise(data: bytes, limits: Limits) -> bytes:
    """The same picture with nothing else in it: no EXIF but the orientation, no XMP, text, profile or tail.

    JPEG, PNG and WebP keep their compressed pixels bit by bit. TIFF and BMP can hide anything between their
    parts, so they are decoded and stored as an upright PNG. Doing it twice changes nothing more.

    Raises: UnsupportedImage, UnreadableImage, UploadTooLarge
    """
    kind = _admit(data, limits)
    if kind in ("image/tiff", "image/bmp"):
        return encode_png(decode(data, limits))
    if kind == "application/dicom":
        return dicom.sanitise(data, limits)
    header = _header(kind, data, limits)
    limits.check(header.width, header.height, header.frames)
    strip = {"image/jpeg": _strip_jpeg, "image/png": _strip_png, "image/webp": _strip_webp}[kind]
    return strip(data, header.orientation)


def encode_png(array: NDArray[Any]) -> bytes:
    """Shapes: (H, W), (H, W, 3) or (H, W, 4) uint8"""
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG", compress_level=3)  # a third of level 6's time, a tenth larger
    return out.getvalue()


def thumbnail(array: Pixels, max_px: int) -> Pixels:
    """Shrunk so that neither side is longer than `max_px`; a smaller picture is returned as it is."""
    height, width = array.shape[:2]
    if max(height, width) <= max_px:
        return array
    scale = max_px / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.array(Image.fromarray(array).resize(size, Image.Resampling.BOX))


def _admit(data: bytes, limits: Limits) -> str:
    if len(data) > limits.max_bytes:
        raise UploadTooLarge(f"The file has {len(data):,} bytes; {limits.max_bytes:,} are allowed.")
    return media_type(data)


def _header(kind: str, data: bytes, limits: Limits) -> _Header:
    if kind == "application/dicom":
        width, height, frames = dicom.size(data, limits)
        return _Header(width, height, frames=frames)
    if kind in ("image/tiff", "image/bmp"):
        return _pillow_header(kind, data, limits)
    read = {"image/jpeg": _jpeg_header, "image/png": _png_header, "image/webp": _webp_header}[kind]
    try:
        return read(data)
    except (struct.error, IndexError) as error:
        raise UnreadableImage() from error


def _upright(array: Pixels, orientation: int) -> Pixels:
    """Undo what the camera noted as EXIF orientation."""
    if orientation == 1:
        return array
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def _decode_jpeg(data: bytes, limits: Limits, at_least_px: int | None) -> Pixels:
    header = _header("image/jpeg", data, limits)
    limits.check(header.width, header.height)
    if header.many_scans and data.count(b"\xff\xda") > MAX_SCANS:
        raise UnreadableImage(f"The JPEG picture has more than {MAX_SCANS} scans.")
    floor = at_least_px or 0
    if min(header.width, header.height) <= floor:
        floor = 0
    try:
        array = _jpeg_pixels(data, floor)
    except ValueError as error:
        if DAMAGE.search(str(error)):
            raise UnreadableImage() from error
        array = _decode_odd_jpeg(_strip_jpeg(data, 1), floor, limits)
    return _upright(array, header.orientation)


def _jpeg_pixels(data: bytes, floor: int) -> Pixels:
    """Raises: ValueError also for what libjpeg would only warn about"""
    array: Pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=floor, min_width=floor)
    return array


def _decode_odd_jpeg(stripped: bytes, floor: int, limits: Limits) -> Pixels:
    """A JPEG with stray bytes, which are gone now and hid any later damage, or with uncommon subsampling."""
    try:
        return _jpeg_pixels(stripped, floor)
    except ValueError as error:
        if DAMAGE.search(str(error)):
            raise UnreadableImage() from error
    return _decode_with_pillow("image/jpeg", stripped, limits)


def _pillow_header(kind: str, data: bytes, limits: Limits) -> _Header:
    try:
        with Image.open(io.BytesIO(data), formats=[PILLOW_NAMES[kind]]) as image:
            width, height = image.size
            frames = _tiff_frames(data, limits.max_frames) if kind == "image/tiff" else 1
            return _Header(width, height, frames=frames)  # Pillow turns a TIFF, and its size, by itself
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UploadTooLarge() from error
    except Exception as error:
        raise UnreadableImage() from error


def _decode_with_pillow(kind: str, data: bytes, limits: Limits) -> Pixels:
    """Raises: UnreadableImage for whatever Pillow raises, UploadTooLarge"""
    try:
        with Image.open(io.BytesIO(data), formats=[PILLOW_NAMES[kind]]) as image:
            limits.check(*image.size)
            image.load()
            return _rgb(image)
    except ServiceError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UploadTooLarge() from error
    except Exception as error:
        raise UnreadableImage() from error


def _rgb(image: Image.Image) -> Pixels:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return np.repeat(_eight_bits(image)[:, :, np.newaxis], 3, axis=2)
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def _eight_bits(image: Image.Image) -> Pixels:
    """Grey samples of more than 8 bits, their range mapped to 0..255.

    The range is the type's (65,535 for 16 bits, 1.0 for fractions); samples that have no such convention, or
    leave it, are stretched from their least to their greatest. NaN is black.
    """
    tags = getattr(image, "tag_v2", {})
    values = np.nan_to_num(np.asarray(image).astype(np.float32), posinf=0, neginf=0)
    low, high = 0.0, 1.0
    if image.mode.startswith("I;16"):
        bits = tags.get(258, (16,))[0]
        high = float(2 ** min(max(bits, 1), 16) - 1)
    if image.mode == "I" or values.min() < low or values.max() > high:
        low, high = float(values.min()), float(values.max())
    scaled = (values - low) / max(high - low, 1e-12)
    if tags.get(262) == 0:  # white is zero; Pillow inverts only 1 to 8 bits
        scaled = 1 - scaled
    grey: Pixels = np.rint(scaled * 255).astype(np.uint8)
    return grey


# Containers: where each format keeps its parts.


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


def _jpeg_header(data: bytes) -> _Header:
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
    return _Header(width, height, orientation or 1, many_scans=many_scans)


def _strip_jpeg(data: bytes, orientation: int) -> bytes:
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


def _png_header(data: bytes) -> _Header:
    if data[12:16] != b"IHDR":
        raise UnreadableImage()
    width, height = struct.unpack_from(">II", data, 16)
    orientation, frames = 1, 1
    for kind, start, end in _png_chunks(data):
        if kind == b"eXIf":
            orientation = _orientation(data[start:end])
        elif kind == b"acTL":
            (frames,) = struct.unpack_from(">I", data, start)
    return _Header(width, height, orientation, max(frames, 1))


def _strip_png(data: bytes, orientation: int) -> bytes:
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


def _webp_header(data: bytes) -> _Header:
    size: tuple[int, int] | None = None
    orientation, frames = 1, 0
    for kind, start, end in _webp_file(data):
        frames += kind == b"ANMF"
        if kind == b"EXIF":
            orientation = _orientation(data[start:end].removeprefix(b"Exif\0\0"))
        elif size is None:
            size = _webp_size(kind, data, start)
    return _Header(*(size or (0, 0)), orientation, max(frames, 1))


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


def _strip_webp(data: bytes, orientation: int) -> bytes:
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


def _tiff_frames(data: bytes, enough: int) -> int:
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
