"""The reviews of a job: a clinician agrees with what was found, or says what it is instead."""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel

from api import problems
from api.auth import owner
from api.checked import checked
from api.jobs import JobPath
from api.lookup import row_of
from api.services import services
from api.views import time_of
from shared import reviews
from shared.catalog import PIPELINES
from shared.errors import FieldProblem, InvalidRequest, NothingFound
from shared.schemas import Review, ReviewList, ReviewRequest
from shared.tables import JobRow, ReviewRow

api = APIBlueprint(
    "reviews", __name__, url_prefix="/v1/jobs", abp_tags=[Tag(name="jobs")], abp_responses=problems.RESPONSES
)


@api.post("/<job_id>/review", responses={"201": Review})
@checked
def review(path: JobPath, body: ReviewRequest) -> Response:
    """Say whether the findings are right, and if not, which label is"""
    room = services()
    row = row_of(room, path.job_id)
    _check(row, body)
    added = reviews.add(room.db, row.id, owner=owner(), **body.model_dump())
    return _json(_shown(added), 201)


@api.get("/<job_id>/reviews", responses={"200": ReviewList})
@checked
def list_reviews(path: JobPath) -> Response:
    """List what was said of a job's findings, the newest first"""
    room = services()
    rows = reviews.of(room.db, row_of(room, path.job_id).id)
    return _json(ReviewList(items=[_shown(row) for row in rows]))


def _check(row: JobRow, body: ReviewRequest) -> None:
    """Raises: NothingFound, InvalidRequest"""
    if not (row.findings or row.grades or row.segments):
        raise NothingFound()
    known = [label.code for head in PIPELINES[row.pipeline].heads for label in head.labels]
    if body.label is not None and body.label not in known:
        wrong = f"must be one of {', '.join(known)}"
        raise InvalidRequest(f"The label {wrong}.", errors=[FieldProblem(wrong, "/label")])


def _shown(row: ReviewRow) -> Review:
    return Review.model_validate(
        {
            "id": row.id,
            "verdict": row.verdict,
            "label": row.label,
            "note": row.note,
            "created_at": time_of(row.created_at),
        }
    )


def _json(body: BaseModel, status: int = 200) -> Response:
    return Response(body.model_dump_json(), status, mimetype="application/json")
