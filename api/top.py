"""What two looks at /metrics tell of the time between them: the figures of `medq top`."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from shared.figures import ROLES, STAGES

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
TAIL = 0.95


@dataclass(frozen=True)
class Look:
    """Every sample of /metrics at one moment."""

    at_s: float
    samples: Samples

    @classmethod
    def of(cls, text: str) -> "Look":
        """Raises: ValueError if it is not Prometheus's text format"""
        families = text_string_to_metric_families(text)
        samples = {
            (one.name, frozenset(one.labels.items())): one.value
            for family in families
            for one in family.samples
        }
        return cls(time.monotonic(), samples)

    def sum(self, name: str, **labels: str) -> float:
        """Of all samples that bear these labels."""
        wanted = set(labels.items())
        return sum(value for (known, own), value in self.samples.items() if known == name and wanted <= own)

    def has(self, name: str) -> bool:
        return any(known == name for known, _ in self.samples)


@dataclass(frozen=True)
class Span:
    """Two looks: how fast counters grew, and what histograms saw meanwhile."""

    before: Look
    now: Look

    def grown(self, name: str, **labels: str) -> float:
        """A counter that fell was started again: what it counts now is what it grew by."""
        now, before = self.now.sum(name, **labels), self.before.sum(name, **labels)
        return now - before if now >= before else now

    def rate(self, name: str, **labels: str) -> float:
        return self.grown(name, **labels) / max(self.now.at_s - self.before.at_s, 1e-3)

    def mean(self, name: str, **labels: str) -> float | None:
        """Of a histogram's observations; None when there were none."""
        count = self.grown(f"{name}_count", **labels)
        return self.grown(f"{name}_sum", **labels) / count if count else None

    def tail(self, name: str, **labels: str) -> float | None:
        """The 95th percentile, as Prometheus's histogram_quantile finds it; None without observations."""
        bounds = {
            dict(own)["le"]
            for known, own in self.now.samples
            if known == f"{name}_bucket" and set(labels.items()) <= own
        }
        buckets = sorted((float(le), self.grown(f"{name}_bucket", le=le, **labels)) for le in bounds)
        return quantile(buckets, TAIL)


def quantile(buckets: list[tuple[float, float]], share: float) -> float | None:
    """From cumulative counts by upper bound; past the last finite bound it is that bound.

    Source: promql.bucketQuantile of Prometheus
    """
    if not buckets or not buckets[-1][1]:
        return None
    wanted = share * buckets[-1][1]
    low, under = 0.0, 0.0
    for bound, count in buckets:
        if count >= wanted:
            return low if bound == float("inf") else low + (bound - low) * (wanted - under) / (count - under)
        low, under = bound, count
    return low


@dataclass(frozen=True)
class StageRow:
    """One stage. Rates are jobs a second; times are of attempts that ended meanwhile, None when none did."""

    stage: str
    waiting: int
    waiting_bulk: int
    oldest_s: float
    running: int
    done_rate: float
    failed_rate: float
    mean_s: float | None
    tail_s: float | None


@dataclass(frozen=True)
class Top:
    """What `medq top` shows. What workers count is None while Redis does not answer."""

    jobs: dict[str, int]  # by status
    stages: list[StageRow]
    pauses: int
    broker: bool
    workers: dict[str, int] | None = None  # by role
    device: dict[str, float | None] | None = None
    llm: dict[str, float | None] | None = None
    swept: dict[str, int] | None = None  # since the look before
    webhooks: dict[str, float] = field(default_factory=dict)
    requests: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "stages": [vars(row) for row in self.stages]}


def top(before: Look, now: Look) -> Top:
    span = Span(before, now)
    known = now.has("medq_workers")
    return Top(
        jobs={
            status: int(now.sum("medq_jobs", status=status)) for status in _values(now, "medq_jobs", "status")
        },
        stages=[_stage(span, stage) for stage in STAGES],
        pauses=int(now.sum("medq_pauses")),
        broker=bool(now.sum("medq_broker_up")),
        workers={role: int(now.sum("medq_workers", role=role)) for role in ROLES} if known else None,
        device=_device(span) if known else None,
        llm=_llm(span) if known else None,
        swept=_swept(span) if known else None,
        webhooks={
            "waiting": now.sum("medq_webhook_deliveries_waiting"),
            "delivered_rate": span.rate("medq_webhook_seconds_count", outcome="delivered"),
            "not_delivered_rate": span.rate("medq_webhook_seconds_count", outcome="again")
            + span.rate("medq_webhook_seconds_count", outcome="failed"),
        },
        requests={
            "rate": span.rate("medq_http_requests_total"),
            "refused_rate": span.rate("medq_http_requests_total", status="429"),
            "error_rate": sum(
                span.rate("medq_http_requests_total", status=status)
                for status in _values(now, "medq_http_requests_total", "status")
                if status.startswith("5")
            ),
        },
    )


def _values(look: Look, name: str, label: str) -> Iterable[str]:
    """Every value that a label has, in the order in which they were told."""
    return dict.fromkeys(dict(own)[label] for known, own in look.samples if known == name)


def _stage(span: Span, stage: str) -> StageRow:
    now = span.now
    ended = {
        outcome: span.rate("medq_stage_seconds_count", stage=stage, outcome=outcome)
        for outcome in ("advance", "finish", "retry", "fail")
    }
    oldest = [
        now.sum("medq_oldest_waiting_seconds", stage=stage, lane=lane) for lane in ("interactive", "bulk")
    ]
    return StageRow(
        stage,
        waiting=int(now.sum("medq_queue_jobs", stage=stage, lane="interactive")),
        waiting_bulk=int(now.sum("medq_queue_jobs", stage=stage, lane="bulk")),
        oldest_s=max(oldest),
        running=int(now.sum("medq_jobs", stage=stage, status="running")),
        done_rate=ended["advance"] + ended["finish"],
        failed_rate=ended["retry"] + ended["fail"],
        mean_s=span.mean("medq_stage_seconds", stage=stage),
        tail_s=span.tail("medq_stage_seconds", stage=stage),
    )


def _device(span: Span) -> dict[str, float | None]:
    devices = span.now.sum("medq_workers", role="vision")
    busy = span.rate("medq_device_busy_seconds_total") / devices if devices else None
    return {
        "busy_share": None if busy is None else min(busy, 1.0),  # what was told late counts in one look
        "pictures_rate": span.rate("medq_microbatch_pictures_total"),
        "fill": span.mean("medq_microbatch_fill"),
        "decode_s": span.mean("medq_decode_seconds"),
        "forward_s": span.mean("medq_forward_seconds"),
    }


def _llm(span: Span) -> dict[str, float | None]:
    return {
        "calls_rate": span.rate("medq_llm_seconds_count"),
        "failed_rate": span.rate("medq_llm_seconds_count")
        - span.rate("medq_llm_seconds_count", outcome="replied"),
        "mean_s": span.mean("medq_llm_seconds"),
        "tail_s": span.tail("medq_llm_seconds"),
        "input_tokens_rate": span.rate("medq_llm_tokens_total", kind="input"),
        "output_tokens_rate": span.rate("medq_llm_tokens_total", kind="output"),
    }


def _swept(span: Span) -> dict[str, int]:
    actions = _values(span.now, "medq_swept_total", "action")
    return {action: int(span.grown("medq_swept_total", action=action)) for action in actions}
