"""How often clinicians agree with what was found, as a table."""

from typing import Annotated

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import AfterValidator, BaseModel, Field

from api import problems
from api.auth import owner
from api.checked import checked
from api.listing import Moment
from api.services import services
from api.views import EPOCH
from shared import agreement
from shared.asked import known_pipeline
from shared.catalog import PIPELINES
from shared.schemas import AgreementInfo, AgreementList

api = APIBlueprint("agreement", __name__, abp_tags=[Tag(name="jobs")], abp_responses=problems.RESPONSES)


class AgreementFilter(BaseModel):
    pipeline: (
        Annotated[str, AfterValidator(known_pipeline), Field(json_schema_extra={"enum": list(PIPELINES)})]
        | None
    ) = None
    created_after: Moment | None = Field(None, description="Only reviews that were written after this")


@api.get("/v1/agreement", responses={"200": AgreementList})
@checked
def show(query: AgreementFilter) -> Response:
    """Count how often reviews agree with the first finding, by label and by network

    Only the last review of each job counts. The interval is that of 95 % (Wilson).
    """
    after = query.created_after
    since = None if after is None else int((after - EPOCH).total_seconds() * 1_000_000) + 1
    found = agreement.of(services().db, owner(), pipeline=query.pipeline, since=since)
    body = AgreementList(items=[_shown(one) for one in found])
    return Response(body.model_dump_json(), mimetype="application/json")


def _shown(one: agreement.Agreement) -> AgreementInfo:
    low, high = agreement.interval(one.agreed, one.reviewed)
    return AgreementInfo(
        pipeline=one.pipeline,
        label=one.label,
        model=one.model,
        version=one.version,
        sha256=one.sha256,
        reviewed=one.reviewed,
        agreed=one.agreed,
        disagreed=one.disagreed,
        share=one.agreed / one.reviewed,
        interval=(low, high),
        instead=dict(one.instead.most_common()),
    )
