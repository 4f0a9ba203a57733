"""Untrusted bytes in, facts or pixels out, within limits; and bytes out that carry no metadata."""

import hashlib
import io
import re
import struct
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from shared import dicom
from shared.containers import (
    MAX_SCANS,
    PNG_START,
    Header,
    jpeg_header,
    png_header,
    strip_jpeg,
    strip_png,
    strip_webp,
    tiff_frames,
    webp_header,
)
from shared.errors import InvalidRequest, ServiceError, UnreadableImage, UnsupportedImage, UploadTooLarge

Pixels = NDArray[np.uint8]

# Damaged tags make Pillow warn; the picture is judged by its pixels. Set once here, since a filter that is
# set around a call is shared by every thread that decodes meanwhile.
warnings.filterwarnings("ignore", module=r"PIL\.")

PILLOW_NAMES = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/webp": "WEBP",
    "image/tiff": "TIFF",
    "image/bmp": "BMP",
}
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# What libjpeg fills with grey and only warns about. Its other warnings leave the pixels whole.
DAMAGE = re.compile(
    "premature end|bad huffman|bad arith|found marker|inconsistent progression", re.IGNORECASE
)


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

    def check_frame(self, frame: int | None) -> None:
        """Frames are chosen in DICOM files; of any other picture the first is kept, and no other.

        Raises: InvalidRequest
        """
        frames = self.frames if self.media_type == "application/dicom" else 1
        if frame is not None and frame > frames:
            raise InvalidRequest(
                f"The picture has {frames} frames to choose from; there is no frame {frame}."
            )


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


def decode(data: bytes, limits: Limits, *, at_least_px: int | None = None, frame: int = 1) -> Pixels:
    """The upright picture as 8-bit RGB; of a DICOM file's frames the one with this number, else the first.

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
        return dicom.decode(data, limits, frame - 1)
    header = _header(kind, data, limits)
    limits.check(header.width, header.height)
    if kind == "image/png":
        data = strip_png(data, 1)  # what Pillow is not shown cannot hurt it, nor animate the picture
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
    strip = {"image/jpeg": strip_jpeg, "image/png": strip_png, "image/webp": strip_webp}[kind]
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


def _header(kind: str, data: bytes, limits: Limits) -> Header:
    if kind == "application/dicom":
        width, height, frames = dicom.size(data, limits)
        return Header(width, height, frames=frames)
    if kind in ("image/tiff", "image/bmp"):
        return _pillow_header(kind, data, limits)
    read = {"image/jpeg": jpeg_header, "image/png": png_header, "image/webp": webp_header}[kind]
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
        array = _decode_odd_jpeg(strip_jpeg(data, 1), floor, limits)
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


def _pillow_header(kind: str, data: bytes, limits: Limits) -> Header:
    try:
        with Image.open(io.BytesIO(data), formats=[PILLOW_NAMES[kind]]) as image:
            width, height = image.size
            frames = tiff_frames(data, limits.max_frames) if kind == "image/tiff" else 1
            return Header(width, height, frames=frames)  # Pillow turns a TIFF, and its size, by itself
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
