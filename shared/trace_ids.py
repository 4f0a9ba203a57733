"""Ids of spans, random but for the one span of a job whose ids follow from the job's; and samples by those ids."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Sampler, SamplingResult


class GivenIds(RandomIdGenerator):
    """OpenTelemetry asks a generator for ids and takes none as arguments, so they are laid out beforehand, per thread."""

    def __init__(self) -> None:
        self._local = threading.local()

    @contextmanager
    def given(self, trace_id: int, span_id: int) -> Iterator[None]:
        """The span that this thread starts meanwhile gets these."""
        self._local.ids = (trace_id, span_id)
        try:
            yield
        finally:
            self._local.ids = None

    def generate_trace_id(self) -> int:
        ids = getattr(self._local, "ids", None)
        return ids[0] if ids else super().generate_trace_id()

    def generate_span_id(self) -> int:
        ids = getattr(self._local, "ids", None)
        return ids[1] if ids else super().generate_span_id()


class Spread(Sampler):
    """Any sampler, for ids of jobs: they are UUIDs, whose fixed bits stand where samplers by ratio look for chance."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def should_sample(
        self, parent_context: Context | None, trace_id: int, *arguments: Any, **named: Any
    ) -> SamplingResult:
        digest = hashlib.sha256(trace_id.to_bytes(16, "big")).digest()
        return self._sampler.should_sample(
            parent_context, int.from_bytes(digest[:16], "big"), *arguments, **named
        )

    def get_description(self) -> str:
        return f"Spread({self._sampler.get_description()})"
