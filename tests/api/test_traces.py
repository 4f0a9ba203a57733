"""The API's part of a job's trace."""

import uuid
from collections.abc import Callable
from dataclasses import replace

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from api.app import create_app
from api.services import Services
from shared.settings import Settings
from shared.traces import Traces
from tests.api.driving import ONE_DATABASE, post

CALLERS = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@ONE_DATABASE
def test_a_submit_begins_the_jobs_trace_and_links_the_callers(configured: Callable[..., Settings]) -> None:
    exporter = InMemorySpanExporter()
    rooms = Services.open(chosen := configured())
    traced = replace(rooms, traces=Traces(exporter, "medq", "api"))
    client = create_app(chosen, traced).test_client()
    job_id = post(client, question="private words", headers={"traceparent": CALLERS}).get_json()["id"]
    assert post(client, b"no picture").status_code == 415
    traced.close()
    (span,) = exporter.get_finished_spans()
    assert span.context
    assert (span.name, span.context.trace_id) == ("submit", uuid.UUID(job_id).int)
    assert f"{span.links[0].context.trace_id:032x}" in CALLERS
    assert "private" not in span.to_json()
