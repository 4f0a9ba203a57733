"""A mask as a DICOM Segmentation object that refers to the picture it was made of."""

import io

import numpy as np
import pydicom
import structlog
from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import Segmentation, SegmentationTypeValues, SegmentDescription
from highdicom.sr.coding import CodedConcept
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from shared.cards import ModelCard
from shared.catalog import Head, Label

MEDIA_TYPE = "application/dicom"
STRUCTURE, ABNORMAL = codes.SCT.AnatomicalStructure, codes.SCT.MorphologicallyAbnormalStructure
# SNOMED CT's codes where it has one that means the same; a label without one is coded by us.
CODES = {
    "lesion": (ABNORMAL, codes.SCT.Lesion),
    "left_lung": (STRUCTURE, CodedConcept("44029006", "SCT", "Left lung")),
    "right_lung": (STRUCTURE, CodedConcept("3341006", "SCT", "Right lung")),
}
# Required to be there, allowed to be empty, and never stored with us.
PERSON = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip

log = structlog.get_logger(__name__)


def dicom_seg(
    source: bytes, frame: int, mask: NDArray[np.uint8], head: Head, card: ModelCard, job_id: str
) -> bytes | None:
    """The object's bytes; None when the mask is empty, or the source lacks what the standard asks for.

    Whoever files it fills in the patient: we were never told. Its own identifier follows from the job, so that
    a second attempt makes the same object.

    Shapes: mask (H, W), positions in the head's labels
    """
    present = [position for position in np.unique(mask).tolist() if position]
    if not present:
        return None
    try:
        made = _segmentation(_source(source), frame, mask, present, head, card, job_id)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # The words are the library's about the file's form; names never reach it.
        log.info("no_dicom_seg", job_id=job_id, reason=str(error)[:200])
        return None
    out = io.BytesIO()
    made.save_as(out)
    return out.getvalue()


def _source(data: bytes) -> Dataset:
    dataset = pydicom.dcmread(io.BytesIO(data))
    for keyword in PERSON:
        setattr(dataset, keyword, "")
    if "Modality" not in dataset:
        dataset.Modality = "OT"
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        if keyword not in dataset:
            setattr(dataset, keyword, generate_uid(entropy_srcs=[keyword, dataset.SOPInstanceUID]))
    return dataset


def _segmentation(
    source: Dataset,
    frame: int,
    mask: NDArray[np.uint8],
    present: list[int],
    head: Head,
    card: ModelCard,
    job_id: str,
) -> Segmentation:
    """Segments are numbered from 1 without gaps; of a multi-frame source only the frame that was seen has any."""
    frames = int(source.get("NumberOfFrames") or 1)
    numbered = np.zeros((frames, *mask.shape), np.uint8)
    numbered[frame - 1] = np.searchsorted([0, *present], np.where(np.isin(mask, present), mask, 0))
    return Segmentation(
        source_images=[source],
        pixel_array=numbered,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _description(number, head.labels[position], card) for number, position in enumerate(present, 1)
        ],
        series_instance_uid=generate_uid(entropy_srcs=["series", job_id]),
        series_number=1,
        sop_instance_uid=generate_uid(entropy_srcs=["instance", job_id]),
        instance_number=1,
        manufacturer="MedQ",
        manufacturer_model_name=card.name,
        software_versions=card.version,
        device_serial_number=card.sha256[:16],
        series_description="MedQ: a program's outline, not a diagnosis",
    )


def _description(number: int, label: Label, card: ModelCard) -> SegmentDescription:
    own = CodedConcept(label.code.upper()[:16], "99MEDQ", label.en)
    category, kind = CODES.get(label.code, (STRUCTURE, own))
    return SegmentDescription(
        segment_number=number,
        segment_label=label.en,
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=card.name, version=card.version, family=codes.cid7162.ArtificialIntelligence
        ),
    )
