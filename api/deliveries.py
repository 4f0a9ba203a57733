"""The log of a job's webhooks, and sending one again."""

from datetime import datetime
from typing import Literal

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api import problems
from api.checked import checked
from api.jobs import JobPath
from api.lookup import version_of
from api.services import services
from api.views import time_of
from shared import webhooks
from shared.schemas import Body
from shared.tables import DeliveryRow, DeliveryTryRow

api = APIBlueprint(
    "deliveries",
    __name__,
    url_prefix="/v1/jobs",
    abp_tags=[Tag(name="jobs")],
    abp_responses=problems.RESPONSES,
)


class DeliveryTry(Body):
    """One try; `status` is what the receiver answered, null when it did not."""

    number: int
    at: datetime
    took_s: float
    status: int | None
    error: str | None


class Delivery(Body):
    """One message to the job's webhook; `id` is what the receiver gets as webhook-id."""

    id: str
    event: Literal["completed", "stage"]
    status: Literal["waiting", "delivered", "failed"]
    created_at: datetime
    next_try_at: datetime | None
    tries: list[DeliveryTry]


class DeliveryList(Body):
    items: list[Delivery]
    next: str | None = None


@api.get("/<job_id>/deliveries", responses={"200": DeliveryList})
@checked
def list_deliveries(path: JobPath) -> Response:
    """List what was sent to the job's webhook, the newest first"""
    room = services()
    version_of(room, path.job_id)
    return _listed(path.job_id, 200)


@api.post("/<job_id>/deliveries", responses={"202": DeliveryList})
@checked
def replay(path: JobPath) -> Response:
    """Send the job as it is now once more"""
    room = services()
    version_of(room, path.job_id)
    webhooks.replay(room.db, path.job_id)
    return _listed(path.job_id, 202)


def _listed(job_id: str, status: int) -> Response:
    items = [_delivery(row, tries) for row, tries in webhooks.log_of(services().db, job_id)]
    return Response(DeliveryList(items=items).model_dump_json(), status, mimetype="application/json")


def _delivery(row: DeliveryRow, tries: list[DeliveryTryRow]) -> Delivery:
    return Delivery.model_validate(
        {
            "id": row.id,
            "event": row.event,
            "status": row.status,
            "created_at": time_of(row.created_at),
            "next_try_at": time_of(row.due_at) if row.status == "waiting" else None,
            "tries": [
                {
                    "number": one.number,
                    "at": time_of(one.at),
                    "took_s": one.took_us / 1e6,
                    "status": one.status,
                    "error": one.error,
                }
                for one in tries
            ],
        }
    )
