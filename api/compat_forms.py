"""What clients of the replaced systems read, made from jobs. Their words are theirs; the names are the catalogue's."""

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.catalog import PIPELINES
from shared.images import Limits, decode, encode_png, thumbnail
from shared.schemas import Grade, Job

# The old scalp service's word where the catalogue says 중등도.
OLD_GRADES = {2: "중증도"}
PNG_PX = 1024  # longest side of an X-ray's overlay; theirs had 512
PIXELS_PX = 224  # longest side of an explanation as numbers, the size that MLBIO's network saw


def values_of(job: Job, condition: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """The scalp service's answer: of one condition, or of all."""
    graded = {grade.condition: grade for grade in job.grades or ()}
    return {
        label.aliases[0]: [_value(number, label.ko, graded[label.code])]
        for number, label in enumerate(PIPELINES[job.pipeline].labels, 1)
        if condition in (None, label.code)
    }


def _value(number: int, name: str, grade: Grade) -> dict[str, Any]:
    known = PIPELINES["scalp"].heads[0].grades
    word = OLD_GRADES.get(grade.grade) or known[grade.grade].ko
    return {
        "class_id": number,
        "class_name": name,
        "pr_num": grade.grade,
        "pr_name": word,
        "answer": f"{name}의 상태가 {word} 입니다.",
    }


def prediction_of(job: Job, pixels: list[Any] | None) -> dict[str, Any]:
    """MLBIO's answer. An explanation that was asked for and failed is told under `error`, beside the finding."""
    assert job.findings, "a classified picture has one"
    first = job.findings[0]
    answer = {
        "success": True, "prediction": first.name, "probability": first.probability, "explain": pixels, "image": pixels,
    }  # fmt: skip
    failed = [warning.detail for warning in job.warnings if warning.code == "explanation_failed"]
    return answer | ({"error": failed[0]} if failed else {})


def pixels_of(picture: bytes) -> list[Any]:
    """Rows of pixels, each [red, green, blue] from 0 to 255."""
    found: list[Any] = _small(picture, PIXELS_PX).tolist()
    return found


def png_of(picture: bytes) -> str:
    """In base64."""
    return base64.b64encode(encode_png(_small(picture, PNG_PX))).decode()


def _small(picture: bytes, most_px: int) -> NDArray[np.uint8]:
    """A picture that MedQ made itself, from one that was within the limits."""
    unlimited = Limits(max_bytes=len(picture), max_pixels=2**31)
    return thumbnail(decode(picture, unlimited, at_least_px=most_px), most_px)
