"""Traces of jobs: one for each, whoever tells of it, and nothing at all unless a collector is named."""

import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from shared.errors import ImageFailed, LanguageModelUnavailable
from shared.ids import new_id
from shared.job_types import Outcome
from shared.lifecycle import Event
from shared.settings import ROOT, Settings
from shared.steps import Step
from shared.tables import JobRow
from shared.traces import Traces

CALLERS = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"  # the example of W3C's Trace Context


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def row(job_id: str, **columns: Any) -> JobRow:
    made_us = time.time_ns() // 1000 - 5_000_000
    plain = {"pipeline": "skin", "lane": "interactive", "attempt": 1, "created_at": made_us}
    return JobRow(id=job_id, **plain | columns)


def told(exporter: InMemorySpanExporter, *closed: Traces) -> dict[str, ReadableSpan]:
    for traces in closed:
        traces._provider.force_flush()
    return {span.name: span for span in exporter.get_finished_spans()}


def test_processes_that_know_only_the_job_tell_one_trace(exporter: InMemorySpanExporter) -> None:
    api, vision, answer = (Traces(exporter, "medq", role) for role in ("api", "vision", "answer"))
    job_id = new_id()
    began = time.time_ns()
    api.submitted(job_id, "skin", began, None)
    vision.attempted(row(job_id), "vision", Outcome(job_id, "c", Event.ADVANCE), began)
    answer.attempted(row(job_id, attempt=2), "answer", Outcome(job_id, "c", Event.FINISH), began)
    spans = told(exporter, api, vision, answer)
    assert set(spans) == {"submit", "vision", "answer", "job"}
    assert {span.context.trace_id for span in spans.values() if span.context} == {uuid.UUID(job_id).int}
    root = spans.pop("job")
    assert root.parent is None
    assert root.context
    for span in spans.values():
        assert span.parent
        assert span.parent.span_id == root.context.span_id
    ids = {span.context.span_id for span in spans.values() if span.context}
    assert len(ids | {root.context.span_id}) == 4
    assert {span.resource.attributes["medq.role"] for span in spans.values()} == {"api", "vision", "answer"}


def test_times_are_those_at_which_it_happened(exporter: InMemorySpanExporter) -> None:
    traces, job_id = Traces(exporter, "medq", "vision"), new_id()
    job, began = row(job_id), time.time_ns() - 1_000_000_000
    traces.attempted(job, "vision", Outcome(job_id, "c", Event.FINISH), began)
    spans = told(exporter, traces)
    assert spans["vision"].start_time == began
    assert spans["job"].start_time == job.created_at * 1000
    assert all(
        span.end_time and span.start_time and span.end_time >= span.start_time for span in spans.values()
    )


def test_the_steps_of_an_attempt_stand_below_it(exporter: InMemorySpanExporter) -> None:
    traces, job_id, began = Traces(exporter, "medq", "answer"), new_id(), time.time_ns()
    steps = [
        Step("decode", began, began + 10, {"medq.frames": 1}),
        Step("language_model", began, began + 20, error="answer-rejected"),
    ]
    traces.attempted(row(job_id), "answer", Outcome(job_id, "c", Event.ADVANCE), began, steps)
    spans = told(exporter, traces)
    assert set(spans) == {"answer", "decode", "language_model"}
    for name in ("decode", "language_model"):
        assert spans[name].parent == spans["answer"].context
    assert (spans["decode"].start_time, spans["decode"].end_time) == (began, began + 10)
    assert spans["decode"].attributes == {"medq.job_id": job_id, "medq.frames": 1}
    assert spans["language_model"].status.description == "answer-rejected"


def test_what_went_wrong_is_named_by_its_slug_alone(exporter: InMemorySpanExporter) -> None:
    traces, retried, failed = Traces(exporter, "medq", "vision"), new_id(), new_id()
    again = Outcome(retried, "c", Event.RETRY, error=LanguageModelUnavailable("secret words"))
    traces.attempted(row(retried), "answer", again, time.time_ns())
    for_good = Outcome(failed, "c", Event.FAIL, error=ImageFailed("secret words"))
    traces.attempted(row(failed), "vision", for_good, time.time_ns())
    spans = told(exporter, traces)
    assert set(spans) == {"answer", "vision", "job"}
    assert spans["job"].status.status_code is StatusCode.ERROR
    assert spans["job"].status.description == "image-failed"
    assert spans["answer"].status.description == "language-model-unavailable"
    assert "secret" not in "".join(span.to_json() for span in spans.values())


def test_the_callers_trace_is_linked(exporter: InMemorySpanExporter) -> None:
    traces = Traces(exporter, "medq", "api")
    for header in (CALLERS, "nonsense", None):
        traces.submitted(new_id(), "skin", time.time_ns(), header)
    told(exporter, traces)
    linked, *others = [span.links for span in exporter.get_finished_spans()]
    assert [f"{link.context.trace_id:032x}" for link in linked] == [CALLERS.split("-")[1]]
    assert others == [(), ()]


def test_sampling_takes_whole_jobs(exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    api, vision = Traces(exporter, "medq", "api"), Traces(exporter, "medq", "vision")
    for _ in range(200):
        job_id = new_id()
        api.submitted(job_id, "skin", time.time_ns(), None)
        vision.attempted(row(job_id), "vision", Outcome(job_id, "c", Event.FINISH), time.time_ns())
    told(exporter, api, vision)
    spans: dict[int, int] = {}
    for span in exporter.get_finished_spans():
        assert span.context
        spans[span.context.trace_id] = spans.get(span.context.trace_id, 0) + 1
    assert 0 < len(spans) < 200
    assert set(spans.values()) == {3}


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    came: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", came
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_collector_gets_them_when_the_process_ends() -> None:
    with collector() as (url, came):
        traces = Traces.open(Settings(otel_endpoint=url, otel_service_name="house"), "api")
        assert traces
        job_id = new_id()
        traces.submitted(job_id, "skin", time.time_ns(), None)
        traces.close()
    ((path, body),) = came
    assert path == "/v1/traces"
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    assert {one.key: one.value.string_value for one in resource.resource.attributes}[
        "service.name"
    ] == "house"
    (span,) = resource.scope_spans[0].spans
    assert span.trace_id.hex() == job_id.replace("-", "")


def test_without_a_collector_nothing_is_set_up() -> None:
    """Parts of OpenTelemetry are loaded all the same, by the Redis client, which looks whether they are there."""
    assert Traces.open(Settings(), "api") is None
    code = (
        "import sys, api.wsgi, workers.app, shared.traces; from shared.settings import Settings; "
        "assert shared.traces.Traces.open(Settings(), 'api') is None; "
        "assert not {'shared.trace_ids', 'opentelemetry.exporter'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)
