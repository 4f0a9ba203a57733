"""The report against FHIR's own definitions, as the package fhir.resources carries them."""

from datetime import UTC, datetime
from typing import Any

import pytest
from fhir.resources.R4B.diagnosticreport import DiagnosticReport
from flask.testing import FlaskClient

from api.fhir import NOTICE, diagnostic_report
from shared.schemas import Job
from tests.api.driving import ANSWER, FINDINGS, ONE_DATABASE, Worker, assert_problem, submitted
from tests.api.test_news import shown

GRADE = {
    "condition": "hair_loss", "name": "탈모", "grade": 2, "grade_name": "중등도", "probabilities": [0, 0, 1, 0],
}  # fmt: skip
SEGMENT = {
    "label": "lesion", "name": "Skin lesion", "area_px": 10, "area_fraction": 0.1, "bbox": [0, 0, 5, 2],
    "mean_probability": 0.9, "position": "centre",
}  # fmt: skip
FULL = {
    "status": "succeeded", "stage": None, "findings": FINDINGS, "grades": [GRADE], "segments": [SEGMENT],
    "answer": ANSWER | {"text": "<b>It</b> may & may not"}, "age": 0, "sex": "female",
    "model": {"name": "skin", "version": "1", "sha256": "0" * 64}, "completed_at": datetime(2026, 1, 1, tzinfo=UTC),
}  # fmt: skip


def job(**values: Any) -> Job:
    return shown(9, **values).job.model_copy(update={"id": "018f0000-0000-7000-8000-000000000000"})


@pytest.mark.parametrize(
    "values",
    [FULL, {"findings": FINDINGS}, {"grades": [GRADE]}, {"segments": [SEGMENT], "age": 120, "lang": "ko"}],
)
def test_a_report_is_what_fhir_says_it_is(values: dict[str, Any]) -> None:
    report = diagnostic_report(job(**values), "Skin lesion", "MedQ 0")
    checked = DiagnosticReport.model_validate(report)
    references = {one.reference for one in checked.result}
    contained = {f"#{one.id}" for one in checked.contained}
    assert len(contained) == len(report["contained"])
    assert references <= contained
    assert contained - references == {"#device", "#patient"} & contained


def test_a_report_says_what_was_found_and_that_nobody_checked_it() -> None:
    report = diagnostic_report(job(**FULL), "Skin lesion", "MedQ 0")
    assert report["status"] == "preliminary"
    assert report["conclusion"].endswith(NOTICE)
    assert "&lt;b&gt;It&lt;/b&gt; may &amp; may not" in report["text"]["div"]
    seen = {one["id"]: one for one in report["contained"]}
    assert seen["finding-mel"]["valueQuantity"]["value"] == 0.81
    assert seen["finding-mel"]["interpretation"][0]["coding"][0]["code"] == "POS"
    assert seen["finding-nv"]["interpretation"][0]["coding"][0]["code"] == "NEG"
    assert seen["grade-hair-loss"]["valueCodeableConcept"]["text"] == "중등도 (2)"
    assert seen["segment-lesion"]["valueQuantity"]["value"] == 0.1
    assert (seen["age"]["valueQuantity"]["value"], seen["patient"]["gender"]) == (0, "female")


@ONE_DATABASE
def test_a_report_is_served_once_there_is_something_in_it(client: FlaskClient, worker: Worker) -> None:
    job_id = submitted(client, age="45")["id"]
    url = f"/v1/jobs/{job_id}/report.fhir.json"
    assert_problem(client.get(url), 409, "nothing-found")
    worker.finish(job_id)
    response = client.get(url)
    assert response.mimetype == "application/fhir+json"
    assert DiagnosticReport.model_validate_json(response.data).id == job_id
    client.delete(f"/v1/jobs/{job_id}")
    assert_problem(client.get(url), 409, "nothing-found")
