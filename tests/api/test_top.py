"""`medq top`'s figures, from texts as /metrics has them."""

import io
import json

import pytest
from rich.console import Console

from api.render_top import seconds, top_view
from api.top import Look, Top, quantile, top
from shared.figures import Figures

QUIET = """
medq_jobs{stage="vision",status="queued"} 7
medq_jobs{stage="vision",status="running"} 2
medq_jobs{stage="answer",status="succeeded"} 90
medq_queue_jobs{lane="interactive",stage="vision"} 3
medq_queue_jobs{lane="bulk",stage="vision"} 4
medq_oldest_waiting_seconds{lane="interactive",stage="vision"} 130
medq_oldest_waiting_seconds{lane="bulk",stage="vision"} 9
medq_pauses 0
medq_webhook_deliveries_waiting 2
medq_http_requests_total{method="GET",route="/",status="200"} 100
medq_http_requests_total{method="GET",route="/",status="503"} 5
"""
WORKERS = """
medq_broker_up 1
medq_workers{role="vision"} 2
medq_workers{role="answer"} 1
medq_workers{role="archive"} 1
medq_workers{role="sweeper"} 0
"""


def looks(*steps: Figures, seconds: float = 10.0) -> list[Look]:
    """One look after each step of what workers counted."""
    found = []
    for number, figures in enumerate(steps):
        families = figures.registry.collect()
        counted = {(s.name, frozenset(s.labels.items())): s.value for one in families for s in one.samples}
        found.append(Look(number * seconds, Look.of(QUIET + WORKERS).samples | counted))
    return found


def worked() -> Figures:
    """What two vision workers may do in ten seconds."""
    figures = Figures()
    for took in (0.2, 0.4):
        figures.stage_seconds.labels("vision", "advance").observe(took)
    figures.stage_seconds.labels("vision", "fail").observe(0.2)
    figures.busy_seconds.inc(15)
    figures.pictures.labels("skin").inc(30)
    figures.microbatch_fill.labels("skin").observe(0.5)
    figures.llm_seconds.labels("first", "replied").observe(2.0)
    figures.llm_seconds.labels("first", "unavailable").observe(4.0)
    figures.llm_tokens.labels("first", "output").inc(250)
    figures.swept.labels("lost").inc(3)
    return figures


def test_rates_and_means_are_of_the_time_between_two_looks() -> None:
    seen = top(*looks(Figures(), worked()))
    vision = seen.stages[0]
    assert (vision.stage, vision.waiting, vision.waiting_bulk, vision.running) == ("vision", 3, 4, 2)
    assert (vision.oldest_s, vision.done_rate, vision.failed_rate) == (130, 0.2, 0.1)
    assert vision.mean_s == pytest.approx(0.8 / 3)
    assert seen.device == {
        "busy_share": 0.75,
        "pictures_rate": 3.0,
        "fill": 0.5,
        "decode_s": None,
        "forward_s": None,
    }
    assert seen.llm is not None
    assert (seen.llm["calls_rate"], seen.llm["failed_rate"], seen.llm["mean_s"]) == (0.2, 0.1, 3.0)
    assert seen.llm["output_tokens_rate"] == 25
    assert seen.swept is not None
    assert (seen.swept["lost"], seen.swept["expired"]) == (3, 0)
    assert seen.jobs == {"queued": 7, "running": 2, "succeeded": 90}


def test_counters_that_started_again_count_from_zero() -> None:
    """Redis forgot the totals: what is there now came since."""
    seen = top(*looks(worked(), Figures()))
    assert seen.stages[0].done_rate == 0
    before, now = looks(worked(), worked())
    now.samples[("medq_swept_total", frozenset({("action", "lost")}))] = 1
    again = top(before, now)
    assert again.swept is not None
    assert again.swept["lost"] == 1


def test_without_redis_nothing_is_said_of_workers() -> None:
    look = Look(0.0, Look.of(QUIET + "medq_broker_up 0\n").samples)
    seen = top(look, Look(10.0, look.samples))
    assert (seen.broker, seen.workers, seen.device, seen.llm, seen.swept) == (False, None, None, None, None)
    assert "Redis does not answer" in shown(seen)


def shown(seen: Top) -> str:
    console = Console(width=140, file=io.StringIO())
    console.print(top_view(seen, "http://medq"))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_what_people_see() -> None:
    text = shown(top(*looks(Figures(), worked())))
    for words in (
        "7 queued", "90 succeeded", "2 min", "75 %", "3.0 pictures/s", "3 lost", "no sweeper worker",
        "0.20 calls/s", "2 waiting",
    ):  # fmt: skip
        assert words in text, (words, text)


def test_what_machines_see_is_json() -> None:
    found = json.loads(json.dumps(top(*looks(Figures(), worked())).as_json()))
    assert found["stages"][0]["stage"] == "vision"
    assert found["device"]["busy_share"] == 0.75


@pytest.mark.parametrize(
    ("buckets", "expected"),
    [
        ([], None),
        ([(1.0, 0.0), (float("inf"), 0.0)], None),
        ([(1.0, 100.0), (float("inf"), 100.0)], 0.95),
        ([(1.0, 50.0), (2.0, 100.0), (float("inf"), 100.0)], 1.9),
        ([(1.0, 0.0), (2.0, 0.0), (float("inf"), 8.0)], 2.0),
    ],
)
def test_the_tail_is_found_as_prometheus_finds_it(
    buckets: list[tuple[float, float]], expected: float | None
) -> None:
    assert quantile(buckets, 0.95) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0213, "21 ms"), (2.345, "2.3 s"), (150, "2 min"), (9000, "2.5 h")],
)
def test_times_are_short(value: float | None, text: str) -> None:
    assert seconds(value) == text
