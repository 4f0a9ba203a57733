"""Pictures of every kind, whole and broken: facts, pixels, and what remains of them when they are stored."""

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, PngImagePlugin

from shared.errors import RequestError, UnreadableImage, UnsupportedImage, UploadTooLarge
from shared.images import (
    Limits,
    Pixels,
    decode,
    encode_png,
    inspect,
    sanitise,
    thumbnail,
)

LIMITS = Limits()
MEDIA_TYPES = {
    "JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "TIFF": "image/tiff", "BMP": "image/bmp"
}  # fmt: skip
SECRETS = (b"Secret Name", b"2021:01:02", b"tiff:Artist", b"Canon", b"GPSLat")


def picture(width: int = 60, height: int = 40) -> Pixels:
    """Smooth, and different in every corner and channel."""
    y, x = np.mgrid[:height, :width]
    red, green = 255 * x // max(width - 1, 1), 255 * y // max(height - 1, 1)
    return np.stack([red, green, (red + 255 - green) // 2], axis=2).astype(np.uint8)


def encoded(image: Image.Image | Pixels, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(out, kind, **options)
    return out.getvalue()


def with_metadata(kind: str, orientation: int = 1) -> bytes:
    """A picture that carries a name, a place, a camera and a comment in every way that its format has."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Artist] = "Secret Name"
    exif[ExifTags.Base.Model] = "Canon"
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (37.0, 33.0, 1.0), 29: "2021:01:02"})
    options: dict[str, object] = {"exif": exif}
    if kind in ("JPEG", "WEBP", "PNG"):
        options["icc_profile"] = b"Secret Name" * 20
    if kind in ("JPEG", "WEBP"):
        options["xmp"] = b"<x tiff:Artist='Secret Name' exif:GPSLatitude='37'/>"
        options["quality"] = 95
    if kind == "JPEG":
        options["comment"] = b"Secret Name"
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_text("Author", "Secret Name", zip=False)
        text.add_itxt("XML:com.adobe.xmp", "<x tiff:Artist='Secret Name'/>")
        options["pnginfo"] = text
    if kind == "WEBP":
        options["method"] = 0
    if kind == "BMP":
        options = {}
    return encoded(picture(), kind, **options) + b"Secret Name"


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_claiming(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        png_chunk(*x) for x in ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    )


@pytest.mark.parametrize(("kind", "media_type"), MEDIA_TYPES.items())
def test_header_and_pixels_agree_for_every_format(kind: str, media_type: str) -> None:
    data = encoded(picture(), kind, **({"quality": 95} if kind in ("JPEG", "WEBP") else {}))
    info, array = inspect(data, LIMITS), decode(data, LIMITS)
    assert (info.media_type, info.width, info.height, info.frames) == (media_type, 60, 40, 1)
    assert info.size_bytes == len(data)
    assert array.shape == (40, 60, 3)
    assert array.dtype == np.uint8
    assert array.flags.c_contiguous
    assert np.abs(array.astype(int) - picture()).max() <= (0 if kind in ("PNG", "TIFF", "BMP") else 24)


@pytest.mark.parametrize(
    "data",
    [
        b"GIF89a\1\0\1\0\0\0\0",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"8BPS\0\1",
        b"%PDF-1.7",
        b"hello",
        b"\0",
    ],
)
def test_other_kinds_are_unsupported(data: bytes) -> None:
    with pytest.raises(UnsupportedImage):
        inspect(data, LIMITS)


@pytest.mark.parametrize("function", [inspect, decode, sanitise])
def test_an_empty_file_says_so(function) -> None:
    with pytest.raises(UnreadableImage, match="empty"):
        function(b"", LIMITS)


@pytest.mark.parametrize("function", [inspect, decode, sanitise])
@pytest.mark.parametrize("kind", MEDIA_TYPES)
def test_pixels_and_bytes_are_limited_before_anything_is_decoded(kind: str, function) -> None:
    data = encoded(picture(), kind)
    with pytest.raises(UploadTooLarge, match="60 x 40"):
        function(data, Limits(max_pixels=2399))
    with pytest.raises(UploadTooLarge, match="bytes"):
        function(data, Limits(max_bytes=len(data) - 1))
    function(data, Limits(max_pixels=2400, max_bytes=len(data)))


@pytest.mark.parametrize("function", [inspect, decode, sanitise])
def test_a_decompression_bomb_is_known_by_its_header(function) -> None:
    with pytest.raises(UploadTooLarge, match="60000 x 60000"):
        function(png_claiming(60_000, 60_000), LIMITS)


def test_a_jpeg_scan_bomb_is_refused() -> None:
    data = encoded(picture(), "JPEG", progressive=True)
    scan = data.rindex(b"\xff\xda")
    bomb = data[:scan] + data[scan:-2] * 200 + b"\xff\xd9"
    for function in (decode, sanitise):
        with pytest.raises(UnreadableImage, match="scans"):
            function(bomb, LIMITS)


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"IDAT"])
def test_a_png_of_countless_chunks_is_refused(kind: bytes) -> None:
    whole = encode_png(picture())
    bomb = whole[:33] + png_chunk(kind, b"") * 200_000 + whole[33:]
    with pytest.raises(UnreadableImage, match="far too many parts"):
        inspect(bomb, LIMITS)


def test_a_text_bomb_is_never_inflated() -> None:
    whole = encode_png(picture())
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200_000_000), 1))
    bomb = whole[:33] + text + whole[33:]
    assert np.array_equal(decode(bomb, LIMITS), picture())
    assert sanitise(bomb, LIMITS) == whole


def test_a_picture_of_countless_frames_is_refused() -> None:
    frames = [Image.new("L", (4, 4), 50 * i) for i in range(5)]
    for kind in ("TIFF", "PNG", "WEBP"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert inspect(data, LIMITS).frames == 5, kind
        with pytest.raises(UploadTooLarge, match="frames"):
            inspect(data, replace(LIMITS, max_frames=4))


@pytest.mark.parametrize("kind", MEDIA_TYPES)
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_a_truncated_picture_is_unreadable_never_partly_grey(kind: str, kept: float) -> None:
    data = encoded(np.random.default_rng(1).integers(0, 256, (90, 80, 3), np.uint8), kind)
    with pytest.raises(UnreadableImage):
        decode(data[: int(len(data) * kept)], LIMITS)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_jpeg_with_a_forged_end_is_unreadable(progressive: bool) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (90, 80, 3), np.uint8)
    data = encoded(noise, "JPEG", progressive=progressive)
    stray = b"\0\1\2"  # libjpeg reports only its first complaint, which would be this
    for end in (b"\xff\xd9", stray + b"\xff\xd9"):
        with pytest.raises(UnreadableImage):
            decode(data[:20] + stray + data[20 : len(data) * 2 // 3] + end, LIMITS)


def test_a_jpeg_with_stray_bytes_is_read_as_if_they_were_not_there() -> None:
    data = encoded(picture(), "JPEG")
    stray = data[:-2] + b"\0\0\0" + data[-2:]
    assert np.array_equal(decode(stray, LIMITS), decode(data, LIMITS))
    assert np.array_equal(decode(data[:20] + b"\0\0" + data[20:], LIMITS), decode(data, LIMITS))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_the_fast_jpeg_path_agrees_with_pillow(mode: str, progressive: bool) -> None:
    data = encoded(Image.fromarray(picture(301, 203)).convert(mode), "JPEG", progressive=progressive)
    theirs = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.abs(decode(data, LIMITS).astype(int) - theirs).max() <= 2


def test_uncommon_jpeg_subsampling_is_read() -> None:
    # Mid-grey, so that every block is "no change, no detail": six bits for brightness, four for a colour.
    data = bytearray(encoded(Image.new("RGB", (48, 8), (128, 128, 128)), "JPEG", subsampling=0))
    data[data.index(b"\xff\xc0") + 11] = 0x31  # three brightness blocks to one of each colour
    bits = ("001010" * 3 + "0000" * 2) * 2 + "1111"
    scan = data.index(b"\xff\xda")
    odd = bytes(data[: scan + 14]) + int(bits, 2).to_bytes(len(bits) // 8, "big") + b"\xff\xd9"
    with pytest.raises(ValueError, match="subsampling"):
        simplejpeg.decode_jpeg(odd, "RGB")
    assert (decode(odd, LIMITS) == 128).all()
    assert sanitise(odd, LIMITS) == odd


@pytest.mark.parametrize(
    ("at_least_px", "shape"),
    [(None, (600, 800, 3)), (150, (150, 200, 3)), (299, (300, 400, 3)), (601, (600, 800, 3))],
)
def test_a_scaled_decode_keeps_the_shorter_side(at_least_px: int | None, shape: tuple[int, ...]) -> None:
    data = encoded(picture(800, 600), "JPEG")
    assert decode(data, LIMITS, at_least_px=at_least_px).shape == shape


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(kind: str, orientation: int) -> None:
    data = with_metadata(kind, orientation)
    upright = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: lambda a: np.rot90(a),
    }[orientation](picture().astype(int))  # fmt: skip
    array, info = decode(data, LIMITS), inspect(data, LIMITS)
    assert array.shape == upright.shape
    assert array.flags.c_contiguous
    assert np.abs(array - upright).max() <= 24
    assert (info.height, info.width) == array.shape[:2]


@pytest.mark.parametrize("kind", MEDIA_TYPES)
@pytest.mark.parametrize("orientation", [1, 6])
def test_nothing_but_the_picture_is_stored(kind: str, orientation: int) -> None:
    data = with_metadata(kind, orientation)
    stored = sanitise(data, LIMITS)
    assert not [secret for secret in SECRETS if secret in stored]
    assert np.array_equal(decode(stored, LIMITS), decode(data, LIMITS))
    assert sanitise(stored, LIMITS) == stored
    with Image.open(io.BytesIO(stored)) as image:
        exif = dict(image.getexif())
        left = set(image.info) - {"jfif", "jfif_version", "jfif_density", "loop", "background", "exif"}
    assert exif in ({}, {ExifTags.Base.Orientation: 6})
    assert left <= {"timestamp", "duration", "jfif_unit", "dpi"}


def test_a_jpeg_keeps_its_compressed_pixels() -> None:
    for options in ({}, {"progressive": True}, {"subsampling": 0, "restart_marker_rows": 1}):
        plain = encoded(picture(), "JPEG", **options)
        assert sanitise(plain, LIMITS)[20:] == plain[20:]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_what_follows_the_picture_is_dropped(kind: str) -> None:
    data = encoded(picture(), kind)
    stored = sanitise(data + b"PK\x03\x04<script>", LIMITS)
    assert b"<script>" not in stored
    assert stored == sanitise(data, LIMITS)


def test_an_animated_webp_hides_no_metadata_in_its_frames() -> None:
    frames = [Image.fromarray(np.roll(picture(), i, axis=1)) for i in range(0, 30, 10)]
    data = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    at = data.index(b"ANMF")
    (length,) = struct.unpack_from("<I", data, at + 4)
    hidden = b"HIDE" + struct.pack("<I", 12) + b"Secret Name."
    frame = struct.pack("<I", length + len(hidden)) + data[at + 8 : at + 8 + length] + hidden
    body = data[8:at] + b"ANMF" + frame + data[at + 8 + length :]
    stored = sanitise(b"RIFF" + struct.pack("<I", len(body)) + body, LIMITS)
    assert b"Secret" not in stored
    assert inspect(stored, LIMITS).frames == 3
    assert np.array_equal(decode(stored, LIMITS), picture())


def test_the_first_frame_of_an_animation_is_shown() -> None:
    frames = [Image.fromarray(picture()), Image.fromarray(255 - picture())]
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert np.array_equal(decode(data, LIMITS), picture()), kind


def test_transparent_areas_become_white() -> None:
    rgba = np.dstack([picture(), np.full((40, 60), 255, np.uint8)])
    rgba[:20, :, 3] = 0
    for kind in ("PNG", "WEBP", "TIFF"):
        array = decode(encoded(rgba, kind, **({"lossless": True} if kind == "WEBP" else {})), LIMITS)
        assert (array[:20] == 255).all(), kind
        assert np.array_equal(array[20:], picture()[20:]), kind
    grey = np.dstack([rgba[..., 0], rgba[..., 3]])
    assert (decode(encoded(Image.fromarray(grey, "LA"), "PNG"), LIMITS)[:20] == 255).all()


def test_palettes_are_looked_up_and_may_be_transparent() -> None:
    image = Image.fromarray(picture()).quantize(16)
    assert np.array_equal(decode(encoded(image, "PNG"), LIMITS), np.asarray(image.convert("RGB")))
    assert np.array_equal(decode(encoded(image, "BMP"), LIMITS), np.asarray(image.convert("RGB")))
    clear = decode(encoded(image, "PNG", transparency=0), LIMITS)
    assert (clear[np.asarray(image) == 0] == 255).all()


def test_sixteen_bits_are_scaled_to_eight() -> None:
    ramp = np.linspace(0, 65535, 60 * 40).reshape(40, 60).astype(np.uint16)
    expected = np.rint(ramp / 257).astype(np.uint8)
    for kind in ("PNG", "TIFF"):
        array = decode(encoded(Image.fromarray(ramp), kind), LIMITS)
        assert np.abs(array.astype(int) - expected[..., None]).max() <= 1, kind


def test_one_bit_is_black_and_white() -> None:
    bits = picture()[..., 0] > 127
    for kind in ("PNG", "TIFF", "BMP"):
        assert np.array_equal(decode(encoded(Image.fromarray(bits), kind), LIMITS)[..., 0], bits * 255), kind


def test_fractions_are_scaled_and_not_a_number_is_black() -> None:
    values = np.linspace(0, 1, 2400, dtype=np.float32).reshape(40, 60)
    array = decode(encoded(Image.fromarray(values), "TIFF"), LIMITS)
    assert np.abs(array[..., 0] - values * 255).max() <= 0.51
    values[0, 0], values[0, 1] = np.nan, -1000
    array = decode(encoded(Image.fromarray(values), "TIFF"), LIMITS)
    assert array[0, 1, 0] == 0
    assert array[-1, -1, 0] == 255


@pytest.mark.parametrize("kind", MEDIA_TYPES)
def test_one_pixel_is_a_picture(kind: str) -> None:
    data = encoded(np.full((1, 1, 3), 200, np.uint8), kind)
    assert decode(data, LIMITS).shape == (1, 1, 3)
    assert decode(sanitise(data, LIMITS), LIMITS).shape == (1, 1, 3)


def test_a_mislabelled_picture_is_judged_by_its_bytes() -> None:
    assert inspect(encoded(picture(), "PNG"), LIMITS).media_type == "image/png"
    with pytest.raises(UnreadableImage):
        decode(b"\xff\xd8\xff" + encoded(picture(), "PNG"), LIMITS)


def test_overlapping_tiff_directories_are_counted_and_not_parsed() -> None:
    entries = 60_000
    body = bytearray(3_000_000)
    body[:8] = b"II*\0" + struct.pack("<I", 8)
    for at in range(8, 8 + 16 * 1500, 16):
        struct.pack_into("<H", body, at, entries)
        struct.pack_into("<I", body, at + 2 + 12 * entries, at + 16)
    with pytest.raises(RequestError):
        inspect(bytes(body), LIMITS)


def test_threads_decode_alike() -> None:
    files = [encoded(picture(), kind) for kind in MEDIA_TYPES] * 20
    with ThreadPoolExecutor(8) as pool:
        threaded = list(pool.map(lambda data: decode(data, LIMITS), files))
    assert all(np.array_equal(a, decode(b, LIMITS)) for a, b in zip(threaded, files, strict=True))


def test_thumbnails_keep_the_proportions() -> None:
    assert thumbnail(picture(600, 300), 100).shape == (50, 100, 3)
    assert thumbnail(picture(600, 1), 100).shape == (1, 100, 3)
    small = picture(20, 10)
    assert thumbnail(small, 100) is small


def judge(data: bytes) -> None:
    """Whatever the bytes: an answer or a RequestError, and the three functions agree."""
    small = Limits(max_pixels=100_000, max_bytes=100_000)
    try:
        stored = sanitise(data, small)
        array = decode(data, small)
    except RequestError:
        return
    info = inspect(data, small)
    assert (info.height, info.width) == array.shape[:2]
    assert np.array_equal(decode(stored, small), array)


WHOLE = {kind: with_metadata(kind, 6) for kind in MEDIA_TYPES}  # by name, so that a failure prints short
STARTS = [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"II*\0", b"MM\0+", b"BM"]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(STARTS), st.binary(max_size=300))
def test_random_bytes_never_raise_anything_else(start: bytes, rest: bytes) -> None:
    judge(start + rest)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(WHOLE)),
    st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), max_size=4),
)
def test_mutated_pictures_never_raise_anything_else(kind: str, changes: list[tuple[float, bytes]]) -> None:
    mutated = bytearray(WHOLE[kind])
    for where, patch in changes:
        # Most of what can go wrong stands in the headers, so changes gather at the front.
        at = int(where**3 * len(mutated))
        mutated[at : at + len(patch)] = patch
    judge(bytes(mutated))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(WHOLE)), st.floats(0, 1))
def test_cut_pictures_never_raise_anything_else(kind: str, kept: float) -> None:
    data = WHOLE[kind]
    judge(data[: int(kept * len(data))])
