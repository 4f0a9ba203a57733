"""DICOM: what a frame looks like, which tags survive, and that files built to hurt do not."""

import csv
import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from shared import dicom
from shared.errors import InvalidRequest, RequestError, UnreadableImage, UnsupportedImage, UploadTooLarge
from shared.images import Limits, decode, inspect, sanitise
from tests.shared_data import shared_data

LIMITS = Limits()
RAMP = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
PLAIN_START = bytes(128) + b"DICM\x02\0\x10\0UI\x14\x001.2.840.10008.1.2.1\0"


def dataset(pixels: NDArray[Any], **values: Any) -> Dataset:
    """A secondary capture of a patient with a name."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    made.SOPInstanceUID, made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.3.1", "1.2.3.2", "1.2.3.3"
    made.FrameOfReferenceUID = "1.2.3.4"
    made.PatientName, made.PatientID, made.PatientBirthDate = "Secret^Name", "SECRET-7", "19700101"
    made.InstitutionName = "Secret Hospital"
    made.add_new(0x00091001, "LO", "Secret private")
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    made.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = pixels.dtype.itemsize * 8
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    made.PixelData = pixels.tobytes()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def written(made: Dataset, syntax: UID = ExplicitVRLittleEndian) -> bytes:
    made.file_meta.TransferSyntaxUID = syntax
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made["PixelData"].VR = "OW"
    if syntax.is_encapsulated:
        made["PixelData"].is_undefined_length = True
    out = BytesIO()
    pydicom.dcmwrite(out, made, enforce_file_format=True)
    return out.getvalue()


def grey(made: Dataset) -> NDArray[np.uint8]:
    array = decode(written(made), LIMITS)
    assert (array == array[..., :1]).all()
    return array[..., 0]


def test_header_and_pixels_agree() -> None:
    data = written(dataset(RAMP[:20, :30]))
    info = inspect(data, LIMITS)
    assert (info.media_type, info.width, info.height, info.frames) == ("application/dicom", 30, 20, 1)
    array = decode(data, LIMITS)
    assert array.shape == (20, 30, 3)
    assert array.dtype == np.uint8
    assert array.flags.c_contiguous


def test_a_window_maps_its_edges_to_black_and_white() -> None:
    # PS3.3 C.11.2.1.2.1: y = ((x - (c - 0.5)) / (w - 1) + 0.5) * 255
    array = grey(dataset(RAMP, WindowCenter="2048", WindowWidth="1024")).ravel()
    expected = np.clip((np.arange(4096) - 2047.5) / 1023 + 0.5, 0, 1) * 255
    assert np.abs(array - expected).max() <= 0.51
    exact = grey(
        dataset(RAMP, WindowCenter="2048", WindowWidth="1024", VOILUTFunction="LINEAR_EXACT")
    ).ravel()
    assert (exact[1536], exact[2048], exact[2560]) == (0, 128, 255)
    sigmoid = grey(dataset(RAMP, WindowCenter="2048", WindowWidth="1024", VOILUTFunction="SIGMOID")).ravel()
    assert (sigmoid[0], sigmoid[2048], sigmoid[4095]) == (0, 128, 255)


def test_the_first_of_several_windows_is_used() -> None:
    one = grey(dataset(RAMP, WindowCenter="100", WindowWidth="50"))
    assert np.array_equal(grey(dataset(RAMP, WindowCenter=["100", "900"], WindowWidth=["50", "9"])), one)


def test_rescaling_comes_before_the_window() -> None:
    plain = grey(dataset(RAMP, WindowCenter="2000", WindowWidth="1000"))
    rescaled = dataset(
        RAMP, RescaleSlope="2", RescaleIntercept="-1024", WindowCenter="2976", WindowWidth="1999"
    )
    assert np.abs(grey(rescaled).astype(int) - plain).max() <= 1


def test_without_a_usable_window_the_range_is_stretched() -> None:
    for values in ({}, {"WindowCenter": "100", "WindowWidth": "0"}, {"WindowCenter": ""}):
        array = grey(dataset(RAMP + 500, **values))
        assert (array[0, 0], array[-1, -1]) == (0, 255), values
    assert (grey(dataset(np.full((4, 4), 7, np.uint16))) == 0).all()


def test_padding_does_not_count_for_the_range() -> None:
    signed = RAMP.astype(np.int16)
    signed[0] = -2000
    array = grey(dataset(signed, PixelPaddingValue=-2000))
    assert (array[0] == 0).all()
    assert array[1, 0] == 0


def test_monochrome1_is_inverted() -> None:
    one = grey(dataset(RAMP, PhotometricInterpretation="MONOCHROME1"))
    assert np.array_equal(one, 255 - grey(dataset(RAMP)))


def test_a_voi_lut_goes_before_a_window() -> None:
    lut = Dataset()
    lut.add_new("LUTDescriptor", "US", [4096, 0, 16])
    lut.add_new("LUTData", "OW", np.arange(65535, -1, -16, dtype=np.uint16)[:4096].tobytes())
    array = grey(dataset(RAMP, VOILUTSequence=Sequence([lut]), WindowCenter="1", WindowWidth="1"))
    assert np.abs(array.astype(int) - (255 - grey(dataset(RAMP)))).max() <= 1


@pytest.mark.parametrize("planar", [0, 1])
def test_colour_is_kept(planar: int) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (8, 10, 3), np.uint8)
    made = dataset(rgb, PlanarConfiguration=planar)
    if planar:
        made.PixelData = np.moveaxis(rgb, 2, 0).tobytes()
    assert np.array_equal(decode(written(made), LIMITS), rgb)


def test_a_palette_is_looked_up() -> None:
    indices = np.arange(4, dtype=np.uint8).reshape(2, 2)
    made = dataset(indices, PhotometricInterpretation="PALETTE COLOR")
    for i, colour in enumerate(("Red", "Green", "Blue")):
        made.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [4, 0, 16])
        entries = ((np.arange(4) * 20 + i * 50) * 257).astype(np.uint16)
        made.add_new(f"{colour}PaletteColorLookupTableData", "OW", entries.tobytes())
    array = decode(written(made), LIMITS)
    assert array[1, 1].tolist() == [60, 110, 160]
    assert np.array_equal(decode(sanitise(written(made), LIMITS), LIMITS), array)


def test_every_frame_can_be_asked_for_and_no_other() -> None:
    frames = np.stack([np.full((4, 4), i * 100, np.uint8) for i in range(3)])
    made = dataset(
        frames[0], NumberOfFrames=3, WindowCenter="128", WindowWidth="256", PixelData=frames.tobytes()
    )
    data = written(made)
    assert inspect(data, LIMITS).frames == 3
    assert [int(dicom.decode(data, LIMITS, frame)[0, 0, 0]) for frame in range(3)] == [0, 100, 200]
    for frame in (-1, 3):
        with pytest.raises(InvalidRequest, match="3 frames"):
            dicom.decode(data, LIMITS, frame)
    with pytest.raises(UploadTooLarge, match="frames"):
        inspect(data, Limits(max_frames=2))


def test_an_enhanced_file_has_a_window_for_every_frame() -> None:
    groups = []
    for centre in ("10", "3000"):
        window, group = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = centre, "20"
        group.FrameVOILUTSequence = Sequence([window])
        groups.append(group)
    made = dataset(RAMP, NumberOfFrames=2, PixelData=RAMP.tobytes() * 2)
    made.PerFrameFunctionalGroupsSequence = Sequence(groups)
    data = written(made)
    first, second = (dicom.decode(data, LIMITS, frame)[..., 0].ravel() for frame in (0, 1))
    assert (first[40], second[40], second[3020]) == (255, 0, 255)
    assert np.array_equal(decode(sanitise(data, LIMITS), LIMITS)[..., 0].ravel(), first)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_every_uncompressed_syntax_shows_the_same(syntax: UID) -> None:
    made = dataset(RAMP)
    assert np.array_equal(decode(written(made, syntax), LIMITS), decode(written(made), LIMITS))


def test_compressed_frames_are_read() -> None:
    made = dataset(RAMP)
    plain = decode(written(made), LIMITS)
    made.compress(RLELossless, generate_instance_uid=False)
    assert np.array_equal(decode(written(made, RLELossless), LIMITS), plain)
    eight = (RAMP // 16).astype(np.uint8)
    for syntax, kind in ((JPEG2000Lossless, "JPEG2000"), (JPEGBaseline8Bit, "JPEG")):
        stream = BytesIO()
        Image.fromarray(eight).save(
            stream, kind, **({"no_jp2": True} if kind == "JPEG2000" else {"quality": 95})
        )
        made = dataset(
            eight, WindowCenter="128", WindowWidth="256", PixelData=encapsulate([stream.getvalue()])
        )
        data = written(made, syntax)
        assert np.abs(decode(data, LIMITS)[..., 0].astype(int) - eight).max() <= 4, kind
        assert np.array_equal(decode(sanitise(data, LIMITS), LIMITS), decode(data, LIMITS)), kind


def test_a_compressed_frame_larger_than_its_header_says_is_not_decoded() -> None:
    stream = BytesIO()
    Image.new("L", (900, 900)).save(stream, "JPEG2000", no_jp2=True)
    made = dataset(np.zeros((4, 4), np.uint8), PixelData=encapsulate([stream.getvalue()]))
    with pytest.raises(UploadTooLarge, match="900 x 900"):
        decode(written(made, JPEG2000Lossless), Limits(max_pixels=10_000))


@pytest.mark.parametrize("function", [inspect, decode, sanitise])
def test_what_cannot_be_shown_says_why(function: Any) -> None:
    report = dataset(RAMP)
    data = written(report)
    del report.Rows
    with pytest.raises(UnreadableImage, match="no pixel data"):
        function(written(report), LIMITS)
    with pytest.raises(UploadTooLarge, match="64 x 64"):
        function(data, Limits(max_pixels=4095))
    with pytest.raises(UnsupportedImage, match="JPEG Lossless"):
        function(
            written(dataset(RAMP, PixelData=encapsulate([b"\xff\xd8\xff\xd9"])), JPEGLosslessSV1), LIMITS
        )


@pytest.mark.parametrize("function", [decode, sanitise])
def test_missing_pixel_data_is_named(function: Any) -> None:
    data = written(dataset(RAMP))
    start = data.index(b"\xe0\x7f\x10\x00")
    with pytest.raises(UnreadableImage, match="no pixel data"):
        function(data[:start], LIMITS)


def test_truncated_pixels_are_unreadable() -> None:
    with pytest.raises(UnreadableImage):
        decode(written(dataset(RAMP))[:-10], LIMITS)


def test_only_what_a_viewer_needs_is_stored() -> None:
    data = written(dataset(RAMP, WindowCenter="2048", WindowWidth="1024"))
    data = b"Secret preamble".ljust(128, b" ") + data[128:]
    stored = sanitise(data, LIMITS)
    assert b"ecret" not in stored
    assert b"SECRET" not in stored
    assert b"19700101" not in stored
    left = pydicom.dcmread(BytesIO(stored))
    assert {element.keyword for element in left} <= set(dicom.KEPT_KEYWORDS)
    assert (left.StudyInstanceUID, left.FrameOfReferenceUID) == ("1.2.3.2", "1.2.3.4")
    assert np.array_equal(decode(stored, LIMITS), decode(data, LIMITS))
    assert sanitise(stored, LIMITS) == stored


def test_names_in_nested_tags_are_dropped_too() -> None:
    window, group = Dataset(), Dataset()
    window.WindowCenter, window.WindowWidth, window.OperatorsName = "10", "20", "Secret^Name"
    group.FrameVOILUTSequence = Sequence([window])
    group.PatientName = "Secret^Name"
    data = written(dataset(RAMP, SharedFunctionalGroupsSequence=Sequence([group])))
    assert b"ecret" not in sanitise(data, LIMITS)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")  # as shared.dicom does outside of pytest
def test_identifiers_that_are_none_are_dropped_or_replaced_by_the_same_each_time() -> None:
    data = written(dataset(RAMP)).replace(b"1.2.3.2", b"Secret2").replace(b"1.2.3.1", b"Secret1")
    stored = sanitise(data, LIMITS)
    assert b"ecret" not in stored
    assert stored == sanitise(data, LIMITS)
    left = pydicom.dcmread(BytesIO(stored))
    assert "StudyInstanceUID" not in left
    assert left.SOPInstanceUID.startswith("1.2.826.0.1.3680043.8.498.")  # pydicom's root


def test_a_file_without_preamble_is_known_by_its_first_tags() -> None:
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        data = written(dataset(RAMP), syntax)
        assert inspect(data[132:], LIMITS).media_type == "application/dicom"  # starts with its meta group
        bare = data[data.index(b"\x08\x00\x16\x00", 132) :]
        assert np.array_equal(decode(bare, LIMITS), decode(data, LIMITS))
        assert b"ecret" not in sanitise(bare, LIMITS)


def test_a_deflated_bomb_is_not_inflated() -> None:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join(deflater.compress(bytes(2**20)) for _ in range(200)) + deflater.flush()
    start = bytes(128) + b"DICM\x02\0\x10\0UI\x16\x001.2.840.10008.1.2.1.99"
    with pytest.raises(UploadTooLarge, match="inflates"):
        inspect(start + bomb, LIMITS)


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x08\0\x05\0CS\0\0" * 1_000_000,
        b"\x08\0\x15\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\0\0\0\0" * 1_000_000,
        b"\x08\0\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 100_000,
    ],
    ids=["elements", "items", "depth"],
)
def test_a_file_of_countless_parts_is_refused(bomb: bytes) -> None:
    with pytest.raises(UnreadableImage):
        inspect(PLAIN_START + bomb, LIMITS)


def test_a_header_that_becomes_countless_values_is_refused() -> None:
    data = written(dataset(RAMP))
    values = b"1\\" * 2_000_000
    window = b"\x28\x00\x50\x10UN\0\0" + struct.pack("<I", len(values)) + values
    at = data.index(b"\xe0\x7f\x10\x00")
    with pytest.raises(UnreadableImage, match="header"):
        decode(data[:at] + window + data[at:], LIMITS)


def test_every_file_that_pydicom_decodes_is_shown() -> None:
    folder = shared_data("dicom")
    rows = csv.DictReader((folder / "manifest.csv").read_text().splitlines())
    readable = [
        row["file"] for row in rows if row["pixels"].startswith("(") and (folder / row["file"]).exists()
    ]
    assert len(readable) > 10
    for name in readable:
        array = decode((folder / name).read_bytes(), LIMITS)
        assert array.min() < array.max(), name


SMALL = written(dataset(RAMP[:8, :8], WindowCenter="100", WindowWidth="50"))
HEADER = len(SMALL) - 8 * 8 * 2


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, HEADER), st.binary(min_size=1, max_size=4)), max_size=4), st.booleans()
)
def test_mutated_files_never_raise_anything_else(changes: list[tuple[int, bytes]], bare: bool) -> None:
    mutated = bytearray(SMALL)
    for at, patch in changes:
        mutated[at : at + len(patch)] = patch
    data = bytes(mutated[132:] if bare else mutated)
    for function in (inspect, decode, sanitise):
        try:
            function(data, Limits(max_pixels=100_000))
        except RequestError:
            continue
