"""DICOM Segmentation objects, and every real DICOM file through the vision stage."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from highdicom.seg import segread

from shared.cards import ModelCard
from shared.catalog import PIPELINES
from shared.errors import ImageFailed, ServiceError
from shared.folder_storage import FolderStorage
from shared.images import Limits, decode, inspect, sanitise
from shared.settings import Settings
from shared.tables import JobRow
from tests.shared_data import ROOT, shared_data
from tests.tiny import tiny_model
from tests.workers.test_vision import never
from workers.dicom_seg import dicom_seg
from workers.serving import Models
from workers.vision import VisionStage

FILES = sorted((ROOT / "dicom").glob("*"))
CHEST = PIPELINES["chest-xray"].heads[0]


@pytest.fixture
def card(tmp_path: Path) -> ModelCard:
    return tiny_model(tmp_path / "models", "chest-xray")


def stored(name: str) -> bytes:
    return sanitise(shared_data("dicom", name).read_bytes(), Limits())


def drawn(shape: tuple[int, ...]) -> np.ndarray:
    """A mask of two labels that are not neighbours in the catalog."""
    mask = np.zeros(shape[:2], np.uint8)
    mask[3:9, 4:20] = 1
    mask[12:15, 2:7] = 3
    return mask


def test_an_outline_becomes_an_object_that_refers_to_its_source(card: ModelCard) -> None:
    source = stored("CT_small.dcm")
    mask = drawn(decode(source, Limits()).shape)
    data = dicom_seg(source, 1, mask, CHEST, card, "a job")
    assert data
    made, of = segread(io.BytesIO(data)), pydicom.dcmread(io.BytesIO(source))
    assert made.StudyInstanceUID == of.StudyInstanceUID
    assert made.FrameOfReferenceUID == of.FrameOfReferenceUID
    (study, series, instance) = made.get_source_image_uids()[0]
    assert (study, series, instance) == (of.StudyInstanceUID, of.SeriesInstanceUID, of.SOPInstanceUID)
    assert [made.get_segment_description(n).segment_label for n in made.segment_numbers] == [
        "Left lung",
        "Cardiomediastinum",
    ]
    pixels = made.get_pixels_by_source_instance([of.SOPInstanceUID])[0]
    assert np.array_equal(pixels[..., 0], mask == 1)
    assert np.array_equal(pixels[..., 1], mask == 3)
    assert (made.PatientName, made.PatientID, made.PatientBirthDate) == ("", "", "")


def test_a_second_attempt_makes_the_same_object(card: ModelCard) -> None:
    source = stored("CT_small.dcm")
    mask = drawn(decode(source, Limits()).shape)
    first, second = (dicom_seg(source, 1, mask, CHEST, card, "a job") or b"" for _ in range(2))
    uids = {pydicom.dcmread(io.BytesIO(data)).SOPInstanceUID for data in (first, second)}
    assert len(uids) == 1


def test_only_the_frame_that_was_seen_has_an_outline(card: ModelCard) -> None:
    source = stored("eCT_Supplemental.dcm")
    data = dicom_seg(source, 2, drawn(decode(source, Limits(), frame=2).shape), CHEST, card, "a job")
    assert data
    made, of = segread(io.BytesIO(data)), pydicom.dcmread(io.BytesIO(source))
    pixels = made.get_pixels_by_source_frame(of.SOPInstanceUID, [1, 2], assert_missing_frames_are_empty=True)
    assert not pixels[0].any()
    assert pixels[1].any()


def test_an_empty_mask_and_a_source_without_a_place_make_no_object(card: ModelCard) -> None:
    source = stored("CT_small.dcm")
    shape = decode(source, Limits()).shape
    assert dicom_seg(source, 1, np.zeros(shape[:2], np.uint8), CHEST, card, "a job") is None
    without = stored("693_J2KI.dcm")  # no frame of reference
    assert dicom_seg(without, 1, drawn(decode(without, Limits()).shape), CHEST, card, "a job") is None


@pytest.fixture
def stage(card: ModelCard, tmp_path: Path) -> Iterator[VisionStage]:
    settings = Settings(models_dir=str(tmp_path / "models"), device="cpu", dtype="float32")
    models = Models(settings)
    yield VisionStage(models, FolderStorage(tmp_path / "blobs"), settings)
    models.close()


@pytest.fixture
def put(tmp_path: Path) -> Callable[[bytes], JobRow]:
    """As a submit does: check, strip, store."""

    def make(data: bytes, frame: int | None = None) -> JobRow:
        info = inspect(data, Limits())
        info.check_frame(frame)
        FolderStorage(tmp_path / "blobs").put("a/image", sanitise(data, Limits()))
        return JobRow(
            id="a", pipeline="chest-xray", lane="interactive", lang="en", lost=0, frame=frame,
            media_type=info.media_type,
        )  # fmt: skip

    return make


@pytest.mark.parametrize("name", [path.name for path in FILES] or ["CT_small.dcm"])
def test_every_dicom_file_ends_as_a_job_or_a_clear_problem(
    name: str, stage: VisionStage, put: Callable[..., JobRow]
) -> None:
    data = shared_data("dicom", name).read_bytes()
    problem = None
    try:
        found = stage.begin(put(data), never)()
    except ServiceError as error:
        problem = error
    if problem:
        assert problem.status in (400, 413, 415, 422) or isinstance(problem, ImageFailed)
        assert problem.detail.endswith(".")
        return
    assert {one.name for one in found.artifacts} >= {"mask", "overlay"}
    for frame in range(2, inspect(data, Limits()).frames + 1):
        assert stage.begin(put(data, frame), never)().artifacts
    with pytest.raises(ServiceError, match="there is no frame"):
        put(data, 100_000)
