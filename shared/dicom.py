"""DICOM files: which bytes are one, how their first frame looks, and what of them may be kept."""

import logging
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

from shared.errors import InvalidRequest, RequestError, UnreadableImage, UnsupportedImage, UploadTooLarge

if TYPE_CHECKING:
    from shared.images import Limits

# pydicom warns, and logs, for every value that breaks a rule; a hostile file has thousands. Set once here,
# since a filter around a call is shared by every thread.
warnings.filterwarnings("ignore", module=r"pydicom\.")
logging.getLogger("pydicom").setLevel(logging.ERROR)

PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
# What a viewer needs, and the identifiers that tie a result to its picture. Everything else is dropped,
# so that a new or private tag with a name in it is dropped too.
KEPT_KEYWORDS = (
    *PIXEL_KEYWORDS,
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows",
    "Columns", "PixelAspectRatio", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "SmallestImagePixelValue", "LargestImagePixelValue", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData", "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
    "WindowCenter", "WindowWidth", "VOILUTFunction", "RescaleIntercept", "RescaleSlope",
    "ModalityLUTSequence", "VOILUTSequence", "LUTDescriptor", "LUTData",
    "ExtendedOffsetTable", "ExtendedOffsetTableLengths",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "FrameVOILUTSequence",
    "PixelValueTransformationSequence",
    # Where the picture lies in space, so that a mask can be laid over it again.
    "Modality", "PixelSpacing", "ImagerPixelSpacing", "ImageOrientationPatient", "ImagePositionPatient",
    "SliceThickness", "SpacingBetweenSlices", "PixelMeasuresSequence", "PlanePositionSequence",
    "PlaneOrientationSequence",
)  # fmt: skip
MODALITIES = frozenset(
    [
        "CR",
        "CT",
        "DMS",
        "DX",
        "ES",
        "GM",
        "IO",
        "MG",
        "MR",
        "NM",
        "OP",
        "OPT",
        "OT",
        "PT",
        "PX",
        "RF",
        "RG",
        "RTDOSE",
        "RTIMAGE",
        "SC",
        "SM",
        "US",
        "XA",
        "XC",
    ]
)
KEPT_TAGS = {tag for keyword in KEPT_KEYWORDS if (tag := tag_for_keyword(keyword)) is not None}
PIXEL_TAGS = {tag for keyword in PIXEL_KEYWORDS if (tag := tag_for_keyword(keyword)) is not None}
MAX_READS = 300_000  # a multi-frame file with 2,000 frames needs about 200,000
MAX_HEADER_BYTES = 2**21
PLAIN_START = bytes(128) + b"DICM\x02\0\x10\0UI\x14\x001.2.840.10008.1.2.1\0"  # Explicit VR Little Endian
IDENTIFIER = re.compile(r"[0-9][0-9.]{0,63}")
# Without the preamble a file begins with group 2 or 8: a small even element, then a VR or a short length.
BARE_EXPLICIT = re.compile(rb"[\x02\x08]\0.\0(?:AE|AS|CS|DA|DT|IS|LO|OB|PN|SH|TM|UI|UL|US)", re.DOTALL)
BARE_IMPLICIT = re.compile(rb"[\x02\x08]\0[\0\x01\x05\x08\x12\x16\x18\x20]\0.\0\0\0", re.DOTALL)


def is_dicom(data: bytes) -> bool:
    if data[128:132] == b"DICM":
        return True
    return BARE_EXPLICIT.match(data) is not None or BARE_IMPLICIT.match(data) is not None


def size(data: bytes, limits: "Limits") -> tuple[int, int, int]:
    """Width, height and number of frames, from the header.

    Raises: UnreadableImage, UploadTooLarge
    """
    with _contained():
        return _checked_size(_read(data, limits, stop_before_pixels=True), limits)


def decode(data: bytes, limits: "Limits", frame: int = 0) -> NDArray[np.uint8]:
    """One frame as a viewer shows it first: modality LUT, then VOI LUT or window, MONOCHROME1 inverted.

    A grey frame that names no window is stretched from its least to its greatest value, padding left out.

    Shapes: (H, W, 3) uint8, C-contiguous
    Raises: UnreadableImage, UploadTooLarge, InvalidRequest for a frame that is not there
    """
    with _contained():
        dataset = _read(data, limits)
        _, _, frames = _checked_size(dataset, limits)
        if not 0 <= frame < frames:
            raise InvalidRequest(f"The picture has {frames} frames; there is no frame {frame}.")
        _check_codestream(dataset, frames, frame, limits)
        stored = pixel_array(dataset, index=frame)
        if dataset.SamplesPerPixel == 3:
            return _colour(stored, int(dataset.BitsStored))
        if dataset.PhotometricInterpretation == "PALETTE COLOR":
            palette = apply_color_lut(stored, dataset)
            return _colour(palette[..., :3], palette.dtype.itemsize * 8)
        grey = _grey(dataset, stored, frame)
        return np.repeat(grey[:, :, np.newaxis], 3, axis=2)


def sanitise(data: bytes, limits: "Limits") -> bytes:
    """The same pixels with the tags of KEPT_KEYWORDS and no others, and an empty preamble.

    Raises: UnreadableImage, UploadTooLarge
    """
    with _contained():
        source = _read(data, limits)
        _checked_size(source, limits)
        kept = _kept(source)
        for keyword in ("SOPInstanceUID", "SOPClassUID"):
            if keyword not in kept:
                setattr(
                    kept, keyword, generate_uid(entropy_srcs=[keyword, str(len(data)), str(zlib.crc32(data))])
                )
        kept.file_meta = FileMetaDataset()
        kept.file_meta.TransferSyntaxUID = source.file_meta.TransferSyntaxUID
        kept.file_meta.MediaStorageSOPClassUID = kept.SOPClassUID
        kept.file_meta.MediaStorageSOPInstanceUID = kept.SOPInstanceUID
        out = BytesIO()
        pydicom.dcmwrite(out, kept, enforce_file_format=True)
        return out.getvalue()


@contextmanager
def _contained() -> Iterator[None]:
    """pydicom raises whatever Python raises; strangers get one sentence, the log the cause."""
    try:
        yield
    except RequestError:
        raise
    except Exception as error:
        raise UnreadableImage(
            "The DICOM file cannot be decoded: it is damaged, or compressed in a way that is not supported."
        ) from error


class _MeteredStream(BytesIO):
    """Ends a file that has parts by the million, each of which would become an object."""

    reads_left = MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads_left -= 1
        if self.reads_left < 0:
            raise UnreadableImage("The DICOM file has far too many parts.")
        return super().read(size)


def _read(data: bytes, limits: "Limits", *, stop_before_pixels: bool = False) -> Dataset:
    stream = _MeteredStream(_inflated(data, limits))
    dataset = pydicom.dcmread(stream, force=True, stop_before_pixels=stop_before_pixels)
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    if not stop_before_pixels and not any(keyword in dataset for keyword in PIXEL_KEYWORDS):
        raise UnreadableImage("The DICOM file has no pixel data.")
    # What is read as a block is taken apart when it is asked for, again into an object for every part.
    header = [dataset.get_item(tag) for tag in KEPT_TAGS - PIXEL_TAGS if tag in dataset]
    if sum(len(item.value or b"") for item in header if isinstance(item, RawDataElement)) > MAX_HEADER_BYTES:
        raise UnreadableImage("The DICOM file's header is far too long.")
    return dataset


def _inflated(data: bytes, limits: "Limits") -> bytes:
    """A deflated file as a plain one; pydicom would inflate it whole, whatever its size."""
    stream = _MeteredStream(data)
    read_preamble(stream, force=True)
    if _read_file_meta_info(stream).get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return data
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    plain = inflater.decompress(stream.read(), limits.max_bytes + 1)
    if len(plain) > limits.max_bytes:
        raise UploadTooLarge(f"The DICOM file inflates to more than {limits.max_bytes:,} bytes.")
    return PLAIN_START + plain


def _checked_size(dataset: Dataset, limits: "Limits") -> tuple[int, int, int]:
    if "Rows" not in dataset or "Columns" not in dataset:
        raise UnreadableImage("The DICOM file has no pixel data.")
    syntax = dataset.file_meta.TransferSyntaxUID
    if not get_decoder(syntax).is_available:
        raise UnsupportedImage(f"The DICOM file is compressed as {syntax.name}, which is not supported.")
    width, height = int(dataset.Columns), int(dataset.Rows)
    frames = int(dataset.get("NumberOfFrames") or 1)
    limits.check(width, height, frames)
    return width, height, frames


def _check_codestream(dataset: Dataset, frames: int, frame: int, limits: "Limits") -> None:
    """A compressed frame states its own size, and it is that which decides how much is decoded."""
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    if dataset.file_meta.TransferSyntaxUID == RLELossless:
        return
    stream = get_frame(dataset.PixelData, frame, number_of_frames=frames)
    with Image.open(BytesIO(stream), formats=["JPEG", "JPEG2000"]) as image:
        limits.check(*image.size)


def _kept(source: Dataset) -> Dataset:
    kept = Dataset()
    for tag in KEPT_TAGS & set(source.keys()):
        element = source[tag]
        if element.VR == "SQ":
            setattr(kept, element.keyword, [_kept(item) for item in element.value])
        elif _harmless(element):
            kept.add(element)
    return kept


def _harmless(element: DataElement) -> bool:
    """An identifier, or a modality, that is none may be anything, a name too."""
    if element.keyword == "Modality":
        return element.value in MODALITIES
    return element.VR != "UI" or IDENTIFIER.fullmatch(str(element.value)) is not None


def _colour(array: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    if bits > 8:
        array = array.astype(np.uint32) * 255 // (2**bits - 1)
    return np.ascontiguousarray(np.clip(array, 0, 255).astype(np.uint8))


def _grey(dataset: Dataset, stored: NDArray[Any], frame: int) -> NDArray[np.uint8]:
    values = apply_modality_lut(stored, _holder(dataset, frame, "RescaleSlope", "ModalityLUTSequence"))
    voi = _holder(dataset, frame, "VOILUTSequence", "WindowCenter")
    if voi.get("VOILUTSequence"):
        bits = int(voi.VOILUTSequence[0].LUTDescriptor[2])
        levels = apply_voi(values.astype(np.int64), voi).astype(np.float32) / (2**bits - 1)
    elif (window := _window(voi)) is not None:
        levels = _windowed(values.astype(np.float32), *window, str(voi.get("VOILUTFunction") or "LINEAR"))
    else:
        levels = _stretched(values.astype(np.float32), stored != dataset.get("PixelPaddingValue"))
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        levels = 1 - levels
    grey: NDArray[np.uint8] = np.rint(np.clip(np.nan_to_num(levels), 0, 1) * 255).astype(np.uint8)
    return grey


def _holder(dataset: Dataset, frame: int, *keywords: str) -> Dataset:
    """Where these attributes stand: in the file itself, or in the groups of an enhanced multi-frame file."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for group in (*per_frame[frame : frame + 1], *shared[:1]):
        for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for item in (group.get(name) or [])[:1]:
                if isinstance(item, Dataset) and any(keyword in item for keyword in keywords):
                    return item
    return dataset


def _window(voi: Dataset) -> tuple[float, float] | None:
    """Centre and width of the first window, if it is one."""
    try:
        centre, width = (
            float(np.ravel(np.array(voi[keyword].value, dtype=np.float64))[0])
            for keyword in ("WindowCenter", "WindowWidth")
        )
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    return (centre, width) if np.isfinite(centre) and 0 < width < np.inf else None


def _windowed(values: NDArray[np.float32], centre: float, width: float, function: str) -> NDArray[np.float32]:
    """Source: DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3"""
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -80, 80))), np.float32)
    if function == "LINEAR_EXACT":
        return (values - centre) / width + 0.5
    return (values - (centre - 0.5)) / max(width - 1, 1e-9) + 0.5


def _stretched(values: NDArray[np.float32], shown: Any) -> NDArray[np.float32]:
    finite = np.isfinite(values) & shown
    if not finite.any():
        return np.zeros_like(values)
    low, high = float(values[finite].min()), float(values[finite].max())
    return (values - low) / max(high - low, 1e-12)
