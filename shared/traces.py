"""OpenTelemetry traces of jobs; nothing of it is set up unless a collector is named.

A job's id is its trace's: both are 128 bits. So nothing travels over the broker, whose messages are lists of ids that may
be lost, come twice, or come from the sweeper; whoever has done something for a job tells of it afterwards, with the times
at which it began and ended. Spans carry ids and names of ours, and nothing of what people asked or what was found.
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from shared.job_types import Outcome
from shared.lifecycle import TERMINAL, target
from shared.settings import Settings
from shared.steps import Step
from shared.tables import JobRow

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Status

FLUSH_MS = 2_000  # for what is not told yet when a process ends
Attributes = Mapping[str, str | int]


class Traces:
    """Tells a collector what this process did for jobs."""

    @classmethod
    def open(cls, settings: Settings, role: str) -> "Traces | None":
        """None when no collector is named. Its headers, sampling and resource are OpenTelemetry's own variables."""
        if not settings.otel_endpoint:
            return None
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        endpoint = f"{settings.otel_endpoint.rstrip('/')}/v1/traces"
        return cls(OTLPSpanExporter(endpoint=endpoint), settings.otel_service_name, role)

    def __init__(self, exporter: "SpanExporter", service: str, role: str) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        from shared.trace_ids import GivenIds, Spread

        self._ids = GivenIds()
        resource = Resource.create({"service.name": service, "medq.role": role})
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.sampler = Spread(self._provider.sampler)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("medq")

    def submitted(self, job_id: str, pipeline: str, began_ns: int, traceparent: str | None) -> None:
        """The API has taken a job in. The caller's own trace, if it sent one, is linked and not joined:
        one request may make jobs that others rerun."""
        from opentelemetry.trace import Link, SpanKind, get_current_span
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier = {"traceparent": traceparent} if traceparent else {}
        callers = get_current_span(TraceContextTextMapPropagator().extract(carrier)).get_span_context()
        self._tracer.start_span(
            "submit",
            context=self._under_job(job_id),
            kind=SpanKind.PRODUCER,
            attributes={"medq.job_id": job_id, "medq.pipeline": pipeline},
            links=[Link(callers)] if callers.is_valid else [],
            start_time=began_ns,
        ).end()

    def attempted(
        self, job: JobRow, stage: str, outcome: Outcome, began_ns: int, steps: Sequence[Step] = ()
    ) -> None:
        """A worker has recorded an attempt with its steps, and with the last one the job."""
        from opentelemetry.trace import SpanKind

        attributes: Attributes = {
            "medq.job_id": job.id,
            "medq.pipeline": job.pipeline,
            "medq.lane": job.lane,
            "medq.attempt": job.attempt,
            "medq.outcome": outcome.event.value,
        }
        span = self._tracer.start_span(
            stage,
            context=self._under_job(job.id),
            kind=SpanKind.CONSUMER,
            attributes=attributes,
            start_time=began_ns,
        )
        if outcome.error:
            span.set_status(_failed(outcome.error.slug))
        for step in steps:
            self._step(span, job, step)
        span.end()
        if target(outcome.event) in TERMINAL:
            self._job(job, outcome)

    def _step(self, attempt: "Span", job: JobRow, step: Step) -> None:
        from opentelemetry.context import Context
        from opentelemetry.trace import set_span_in_context

        span = self._tracer.start_span(
            step.name,
            context=set_span_in_context(attempt, Context()),
            attributes={"medq.job_id": job.id, **step.attributes},
            start_time=step.began_ns,
        )
        if step.error:
            span.set_status(_failed(step.error))
        span.end(step.ended_ns)

    def _job(self, job: JobRow, outcome: Outcome) -> None:
        """The whole of it, from the submit by the database's clock. Jobs that the sweeper ends have none."""
        from opentelemetry.context import Context

        with self._ids.given(*_ids_of(job.id)):
            span = self._tracer.start_span(
                "job", context=Context(), attributes={"medq.job_id": job.id}, start_time=job.created_at * 1000
            )
        if outcome.error:
            span.set_status(_failed(outcome.error.slug))
        span.end(max(time.time_ns(), job.created_at * 1000))

    def _under_job(self, job_id: str) -> "Context":
        """Below the span of the whole job, which is told last; sampled if that will be."""
        from opentelemetry.context import Context
        from opentelemetry.sdk.trace.sampling import Decision
        from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

        trace_id, span_id = _ids_of(job_id)
        decision = self._provider.sampler.should_sample(None, trace_id, "job").decision
        sampled = decision is Decision.RECORD_AND_SAMPLE
        flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
        parent = SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)
        return set_span_in_context(NonRecordingSpan(parent), Context())

    def close(self) -> None:
        """Tell the rest, and do not wait long for a collector that is away."""
        self._provider.force_flush(FLUSH_MS)
        self._provider.shutdown()


def _ids_of(job_id: str) -> tuple[int, int]:
    """Of a job's trace, and of the span of the whole job."""
    number = uuid.UUID(job_id).int
    return number, number & (2**64 - 1)


def _failed(slug: str) -> "Status":
    from opentelemetry.trace import Status, StatusCode

    return Status(StatusCode.ERROR, slug)
