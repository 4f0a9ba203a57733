"""How often clinicians agree with what was found, as a table."""

from typing import Annotated, Any

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
from shared.schemas import AgreementInfo, AgreementList, NetworkAgreement

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

    Only the last review of each job counts. The interval is that of 95 % (Wilson). `items` are labels of networks,
    `networks` the same whatever the label.
    """
    after = query.created_after
    since = None if after is None else int((after - EPOCH).total_seconds() * 1_000_000) + 1
    found = agreement.of(services().db, owner(), pipeline=query.pipeline, since=since)
    body = AgreementList(
        items=[AgreementInfo(label=one.label, **_shown(one)) for one in found],
        networks=[NetworkAgreement(**_shown(one)) for one in agreement.by_network(found)],
    )
    return Response(body.model_dump_json(), mimetype="application/json")


def _shown(one: agreement.Agreement) -> dict[str, Any]:
    names = ("pipeline", "model", "version", "sha256", "reviewed", "agreed", "disagreed")
    return {name: getattr(one, name) for name in names} | {
        "share": one.agreed / one.reviewed,
        "interval": agreement.interval(one.agreed, one.reviewed),
        "instead": dict(one.instead.most_common()),
    }
