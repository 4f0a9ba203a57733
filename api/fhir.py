"""A job as a FHIR R4 DiagnosticReport, with everything that it refers to inside.

Source: hl7.org/fhir/R4/diagnosticreport.html. The report is `preliminary` and stays so: no clinician answers for it.
"""

from html import escape
from typing import Any

from shared.schemas import Finding, Grade, Job, Segment

UCUM = "http://unitsofmeasure.org"
INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
STATUS = "preliminary"
NOTICE = "Made by MedQ, which is not a medical device. No clinician has checked it."

Resource = dict[str, Any]


def diagnostic_report(job: Job, title: str, made_by: str) -> Resource:
    """`title` names the pipeline, `made_by` the version of MedQ. What is unknown is left out, as FHIR wants it."""
    observations = _observations(job)
    contained = [*observations, _device(job, made_by), *_patient(job)]
    report: Resource = {
        "resourceType": "DiagnosticReport",
        "id": job.id,
        "language": job.lang,
        "text": {"status": "generated", "div": _narrative(job, title)},
        "contained": contained,
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{job.id}"}],
        "status": STATUS,
        "code": {"coding": [_loinc("18748-4", "Diagnostic imaging study")], "text": title},
        "subject": {"reference": "#patient"} if job.sex else None,
        "effectiveDateTime": job.created_at.isoformat(),
        "issued": job.completed_at.isoformat() if job.completed_at else None,
        "result": [{"reference": f"#{one['id']}"} for one in observations],
        "conclusion": f"{job.answer.text}\n\n{NOTICE}" if job.answer else NOTICE,
    }
    return {name: value for name, value in report.items() if value is not None}


def _observations(job: Job) -> list[Resource]:
    found = [
        *(_finding(job, one) for one in job.findings or ()),
        *(_grade(job, one) for one in job.grades or ()),
        *(_segment(job, one) for one in job.segments or ()),
    ]
    if job.age is not None:
        age = {"value": job.age, "unit": "a", "system": UCUM, "code": "a"}
        found.append(_observation("age", {"coding": [_loinc("30525-0", "Age")]}, valueQuantity=age))
    return found


def _finding(job: Job, one: Finding) -> Resource:
    positive = one.above_threshold
    coding = {
        "system": INTERPRETATION,
        "code": "POS" if positive else "NEG",
        "display": "Positive" if positive else "Negative",
    }
    return _seen(
        job, "finding", one.label, one.name,
        valueQuantity=_share(one.probability), interpretation=[{"coding": [coding]}],
    )  # fmt: skip


def _grade(job: Job, one: Grade) -> Resource:
    value = {"text": f"{one.grade_name} ({one.grade})"}
    return _seen(job, "grade", one.condition, one.name, valueCodeableConcept=value)


def _segment(job: Job, one: Segment) -> Resource:
    """Its value is the share of the picture that it covers."""
    return _seen(job, "segment", one.label, one.name, valueQuantity=_share(one.area_fraction))


def _seen(job: Job, kind: str, label: str, name: str, **value: Any) -> Resource:
    """What the network saw. Ids hold letters, digits, dots and hyphens only."""
    coding = {"system": f"urn:x-medq:{job.pipeline}", "code": label, "display": name}
    code = {"coding": [coding], "text": name}
    return _observation(f"{kind}-{label.replace('_', '-')}", code, device={"reference": "#device"}, **value)


def _observation(id: str, code: Resource, **more: Any) -> Resource:
    return {"resourceType": "Observation", "id": id, "status": STATUS, "code": code, **more}


def _share(value: float) -> Resource:
    return {"value": round(value, 6), "unit": "1", "system": UCUM, "code": "1"}


def _device(job: Job, made_by: str) -> Resource:
    version = f"{job.model.name} {job.model.version}" if job.model else "unknown"
    return {
        "resourceType": "Device",
        "id": "device",
        "deviceName": [{"name": made_by, "type": "manufacturer-name"}],
        "version": [{"value": version}],
        "note": [{"text": NOTICE}],
    }


def _patient(job: Job) -> list[Resource]:
    """Nobody in particular: MedQ knows no names."""
    return [{"resourceType": "Patient", "id": "patient", "gender": job.sex}] if job.sex else []


def _loinc(code: str, display: str) -> Resource:
    return {"system": "http://loinc.org", "code": code, "display": display}


def _narrative(job: Job, title: str) -> str:
    lines = [f"{one.name}: {one.probability:.1%}" for one in job.findings or ()]
    lines += [f"{one.name}: {one.grade_name}" for one in job.grades or ()]
    lines += [f"{one.name}: {one.area_fraction:.1%}" for one in job.segments or ()]
    lines += [job.answer.text] if job.answer else []
    body = "".join(f"<p>{escape(line)}</p>" for line in [title, *lines, NOTICE])
    return f'<div xmlns="http://www.w3.org/1999/xhtml">{body}</div>'
