"""What language models cost the caller in a month."""

import json
from typing import Annotated

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field

from api import problems
from api.auth import owner
from api.checked import checked
from api.services import services
from shared import usage
from shared.schemas import ModelUsage, Usage
from shared.tables import UsageRow

MILLION = 1_000_000

api = APIBlueprint("usage", __name__, abp_tags=[Tag(name="health")], abp_responses=problems.RESPONSES)


class UsageQuery(BaseModel):
    month: Annotated[str, Field(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])$")] | None = Field(
        None, description="Such as 2026-11, in UTC; by default this one"
    )


@api.get("/v1/usage", responses={"200": Usage})
@checked
def show(query: UsageQuery) -> Response:
    """Look at the calls and tokens that language models took for your jobs in a month"""
    settings = services().settings
    month, rows = usage.of(services().db, owner(), query.month)
    prices = json.loads(settings.prices or "{}")
    items = [_shown(row, prices.get(row.model)) for row in rows]
    costs = [one.cost for one in items if one.cost is not None]
    body = Usage(
        month=month,
        tokens=sum(one.input_tokens + one.output_tokens for one in items),
        cap=settings.owner_tokens_a_month or None,
        cost=round(sum(costs), 6) if len(costs) == len(items) else None,
        items=items,
    )
    return Response(body.model_dump_json(), mimetype="application/json")


def _shown(row: UsageRow, price: list[float] | None) -> ModelUsage:
    cost = None
    if price:
        cost = round((row.input_tokens * price[0] + row.output_tokens * price[1]) / MILLION, 6)
    return ModelUsage(
        model=row.model,
        calls=row.calls,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cost=cost,
    )
