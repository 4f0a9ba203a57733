"""What workers count, declared once: names, helps, labels with all of their values, buckets."""

import json
from collections.abc import Iterable
from itertools import product
from typing import TypeVar, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.samples import Sample

from shared.catalog import PIPELINES
from shared.lifecycle import Event
from shared.queue import LANES
from shared.schemas import StageName

ROLES = ("vision", "answer", "archive", "sweeper")
STAGES = get_args(StageName)
OUTCOMES = (Event.ADVANCE, Event.FINISH, Event.RETRY, Event.FAIL, Event.RELEASE)
HEADS = tuple(dict.fromkeys(head.weights for pipeline in PIPELINES.values() for head in pipeline.heads))
PROVIDERS = ("first", "second")
REPLIES = ("replied", "unavailable", "rejected", "stopped")
SWEPT = ("lost", "expired", "dispatched", "settled", "erased", "clock")

MOMENTS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)  # of work on one picture
STAGE_S = (0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180, 600)
JOB_S = (0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
SHARES = (0.125, 0.25, 0.5, 0.75, 1)

M = TypeVar("M", Histogram, Counter)


class Figures:
    """One process's own counts. Every label value is declared, so that their number is known and small."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.stage_seconds = self._histogram(
            "medq_stage_seconds",
            "From the claim of a job to the record of what came of it",
            STAGE_S,
            stage=STAGES,
            outcome=OUTCOMES,
        )
        self.job_seconds = self._histogram(
            "medq_job_seconds", "From the submit of a job to its success", JOB_S, lane=LANES
        )
        self.decode_seconds = self._histogram(
            "medq_decode_seconds", "To read a stored picture and decode it", MOMENTS_S
        )
        self.forward_seconds = self._histogram(
            "medq_forward_seconds", "One forward pass of a microbatch", MOMENTS_S, head=HEADS
        )
        self.microbatch_fill = self._histogram(
            "medq_microbatch_fill",
            "Pictures of a microbatch as a share of the most it may hold",
            SHARES,
            head=HEADS,
        )
        self.pictures = self._counter(
            "medq_microbatch_pictures", "Pictures that went through a network", head=HEADS
        )
        self.busy_seconds = self._counter("medq_device_busy_seconds", "Time in which a device computed")
        self.llm_seconds = self._histogram(
            "medq_llm_seconds",
            "One call of a language model, to its end",
            STAGE_S,
            provider=PROVIDERS,
            outcome=REPLIES,
        )
        self.llm_tokens = self._counter(
            "medq_llm_tokens",
            "Tokens that language models counted",
            provider=PROVIDERS,
            kind=("input", "output"),
        )
        self.swept = self._counter("medq_swept", "What the sweeper did", action=SWEPT)

    def _histogram(
        self, name: str, about: str, buckets: Iterable[float], **labels: Iterable[str]
    ) -> Histogram:
        made = Histogram(name, about, list(labels), buckets=tuple(buckets), registry=self.registry)
        return _with_every_label(made, labels)

    def _counter(self, name: str, about: str, **labels: Iterable[str]) -> Counter:
        return _with_every_label(Counter(name, about, list(labels), registry=self.registry), labels)

    def values(self) -> dict[str, float]:
        """Every sample under the name that it has on Redis."""
        families = self.registry.collect()
        samples = (sample for family in families for sample in family.samples)
        return {field_of(sample): sample.value for sample in samples if not sample.name.endswith("_created")}


def _with_every_label(metric: M, labels: dict[str, Iterable[str]]) -> M:
    """Children of all declared values: a rate is right from the first count on, and readers know what there may be."""
    if labels:
        for values in product(*labels.values()):
            metric.labels(*values)
    return metric


def field_of(sample: Sample) -> str:
    return sample.name + json.dumps(sample.labels, sort_keys=True)
