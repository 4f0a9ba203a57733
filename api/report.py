"""The report of a job for other systems."""

import json

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api import problems
from api.about import VERSION
from api.checked import checked
from api.fhir import diagnostic_report
from api.jobs import JobPath
from api.lookup import load
from api.services import services
from shared.catalog import PIPELINES
from shared.errors import NothingFound

MEDIA_TYPE = "application/fhir+json"

api = APIBlueprint(
    "report", __name__, url_prefix="/v1/jobs", abp_tags=[Tag(name="jobs")], abp_responses=problems.RESPONSES
)


@api.get("/<job_id>/report.fhir.json", responses={"200": {"content": {MEDIA_TYPE: {}}}})
@checked
def fhir(path: JobPath) -> Response:
    """Fetch what was found as a FHIR R4 DiagnosticReport"""
    job = load(services(), path.job_id).job
    if not (job.findings or job.grades or job.segments):
        raise NothingFound()
    report = diagnostic_report(job, PIPELINES[job.pipeline].title.name(job.lang), f"MedQ {VERSION}")
    disposition = f'attachment; filename="{job.id}.fhir.json"'
    text = json.dumps(report, ensure_ascii=False)
    return Response(text, mimetype=MEDIA_TYPE, headers={"Content-Disposition": disposition})
