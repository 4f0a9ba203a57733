"""How a job enters: picture to the store, row to the database, and only then its id to the broker."""

import hashlib
import time
from dataclasses import replace

import structlog
from flask import request

from api import outbound
from api.auth import actor
from api.multipart import wrong_field
from api.outbound import Allowed, Refused
from api.services import Services
from shared import images, jobs
from shared.asked import Asked
from shared.audit import Actor
from shared.catalog import PIPELINES, Pipeline
from shared.errors import PipelineUnavailable, StorageUnavailable
from shared.idempotency import Idempotency, forget_keys, repeated
from shared.job_types import NewArtifact, NewJob, NewWebhook

IMAGE = "image"  # the artifact's name

log = structlog.get_logger(__name__)


def require(services: Services, name: str) -> Pipeline:
    """The pipeline, if it can run here.

    Raises: PipelineUnavailable with the reason and the command that would change it
    """
    pipeline = PIPELINES[name]
    standing = services.availability.standing(pipeline)
    if not standing.available:
        hint = f" Train it: {standing.train_command}" if standing.train_command else ""
        raise PipelineUnavailable(f"{standing.reason}{hint}")
    return pipeline


def webhook_of(services: Services, asked: Asked) -> NewWebhook | None:
    """Who wants to be told; what is known to lead inwards is refused here already.

    Raises: InvalidRequest
    """
    if asked.webhook_url is None:
        return None
    try:
        if not services.settings.webhook_secret:
            raise Refused(
                "cannot be used: this server sends no webhooks, since MEDQ_WEBHOOK_SECRET is not set"
            )
        allowed = Allowed(services.settings.webhook_allow)
        outbound.check(outbound.parse(asked.webhook_url, allowed), allowed)
    except Refused as error:
        raise wrong_field("webhook_url", str(error)) from None
    return NewWebhook(asked.webhook_url, asked.webhook_events == "stage")


def enter(
    services: Services,
    new: NewJob,
    picture: bytes,
    idempotency: Idempotency | None = None,
    by: Actor | None = None,
) -> str:
    """Store and dispatch a job; answers with its id, or with that of the job which its key made first.

    A broker that does not answer costs nothing but the sweeper's pause: the job is accepted. The audit log says `by`
    whom, or else whose request this is.

    Raises: TooManyRequests, IdempotencyConflict, StorageUnavailable; then nothing of the job is left behind
    """
    began_ns = time.time_ns()
    services.pressure.admit_job()
    try:
        services.storage.put(f"{new.id}/{IMAGE}", picture)
        artifact = NewArtifact(
            IMAGE, images.media_type(picture), hashlib.sha256(picture).hexdigest(), len(picture)
        )
        first = _insert(services, replace(new, artifacts=(artifact,)), idempotency, by or actor())
    except BaseException:
        _forget(services, new.id)
        raise
    if first is not None:
        _forget(services, new.id)
        return first
    log.info("job_accepted", job_id=new.id, pipeline=new.pipeline)
    services.dispatcher.dispatch([new.id], new.stage, PIPELINES[new.pipeline].group, new.lane)
    if services.traces:
        services.traces.submitted(new.id, new.pipeline, began_ns, request.headers.get("traceparent"))
    return new.id


def _insert(services: Services, new: NewJob, idempotency: Idempotency | None, by: Actor | None) -> str | None:
    """Insert the row; the id of another job if its request came first."""
    while not jobs.create(services.db, new, services.settings.redispatch_s, idempotency, by):
        assert idempotency is not None
        if first := repeated(services.db, idempotency):
            return first
        forget_keys(services.db)  # the key is older than a day and its row still in the way
    return None


def _forget(services: Services, job_id: str) -> None:
    try:
        services.storage.erase(job_id)
    except StorageUnavailable:
        log.error("blob_left_behind", job_id=job_id)
