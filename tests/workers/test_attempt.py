"""The cycle claim, run, record of a worker, on both databases and a real Redis."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from shared import jobs, retention
from shared.audit import Actor
from shared.database import Database
from shared.errors import ImageFailed, LanguageModelUnavailable, ModelsAway
from shared.figures import Figures
from shared.folder_storage import FolderStorage
from shared.ids import new_id
from shared.queue import Dispatcher, Hints
from shared.settings import Settings
from shared.steps import step
from shared.tables import AttemptRow, JobRow
from shared.traces import Traces
from tests.servers import Redis
from workers.artifacts import Made, forget, keep
from workers.attempt import CLAIMS, Attempts, Found, no_late, pause_s
from workers.refill import Refiller


class Asked:
    """A stage that does what the job's question says."""

    name = "vision"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.inside = threading.Event()
        self.ran: list[str] = []
        self.storage: Any = None

    def begin(self, job: JobRow, lost: Callable[[], bool]) -> Callable[[], Found]:
        with step("look"):
            if job.question == "unreadable":
                raise ImageFailed("The picture is damaged.")

        def end() -> Found:
            self.ran.append(job.id)
            self.inside.set()
            if job.question != "passes":
                self.gate.wait(60)
            if job.question == "busy":
                raise LanguageModelUnavailable("Come back later.")
            if job.question == "closed":
                raise ModelsAway(retry_after_s=40)
            if job.question == "later":
                raise LanguageModelUnavailable("Come back later.", retry_after_s=40)
            if job.question == "bug":
                raise ZeroDivisionError("a secret of the machine")
            if job.question == "until lost":
                for _ in range(6000):
                    if lost():
                        break
                    threading.Event().wait(0.02)
            if job.question == "artifact":  # before anybody tells it that the job is lost
                mask = Made("mask", "image/png", b"mask")
                return Found(artifacts=keep(self.storage, job.id, [mask], lambda: False))
            return Found({"findings": [{"label": "nv"}]})

        return end

    def slow(self, job: JobRow) -> bool:
        return job.question == "slow"


Start = Callable[..., Attempts]


@pytest.fixture
def stage() -> Asked:
    return Asked()


@pytest.fixture
def start(stage: Asked, database: Database, settings: Callable[..., Settings]) -> Iterator[Start]:
    started: list[tuple[Attempts, Refiller, Dispatcher, Hints]] = []

    def make(
        figures: Figures | None = None,
        traces: Traces | None = None,
        late: Callable[[list[str]], object] = no_late,
        **overrides: Any,
    ) -> Attempts:
        chosen = settings(retry_base_s=0.0, **overrides)
        dispatcher, hints = Dispatcher(chosen), Hints(chosen)
        refiller = Refiller(database, dispatcher, hints, chosen)
        rooms = (database, dispatcher, hints, chosen, refiller)
        attempts = Attempts(stage, *rooms, figures=figures, traces=traces, late=late)
        started.append((attempts, refiller, dispatcher, hints))
        return attempts

    yield make
    stage.gate.set()
    for attempts, refiller, dispatcher, hints in started:
        attempts.close()
        refiller.close()
        dispatcher.close()
        hints.close()


def row(database: Database, job_id: str) -> JobRow:
    found = database.read(lambda session: session.get(JobRow, job_id))
    assert found is not None
    return found


def outcomes(database: Database, job_id: str) -> list[str | None]:
    query = select(AttemptRow.outcome).where(AttemptRow.job_id == job_id).order_by(AttemptRow.number)
    return list(database.read(lambda session: session.scalars(query).all()))


def test_a_message_runs_its_jobs_and_dispatches_the_next_stage(
    start: Start, job_factory: Any, database: Database, broker: Redis
) -> None:
    ids = [job_factory(question="fine").id for _ in range(3)]
    assert start().message(ids) == 3
    for job_id in ids:
        job = row(database, job_id)
        assert (job.status, job.stage, job.findings) == ("queued", "answer", [{"label": "nv"}])
        assert outcomes(database, job_id) == ["advance"]
    assert broker.client().llen("answer.all.interactive") == 3  # one by one: none waits for another


def test_stages_and_whole_jobs_are_counted_by_how_they_end(
    start: Start, job_factory: Any, database: Database
) -> None:
    figures = Figures()
    attempts = start(figures)
    attempts.message([job_factory(question="fine").id, job_factory(question="unreadable").id])
    attempts.message([job_factory(answered=False).id])
    attempts.message([job_factory(question="busy").id])
    values = figures.values()
    counted = {
        outcome: values[f'medq_stage_seconds_count{{"outcome": "{outcome}", "stage": "vision"}}']
        for outcome in ("advance", "finish", "retry", "fail", "release")
    }
    assert counted == {"advance": 1, "finish": 1, "retry": 1, "fail": 1, "release": 0}
    assert values['medq_job_seconds_count{"lane": "interactive"}'] == 1


def test_what_a_zombie_did_is_not_counted(
    start: Start, stage: Asked, job_factory: Any, database: Database
) -> None:
    figures = Figures()
    attempts, job_id = start(figures), job_factory(question="fine").id
    stage.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(attempts.message, [job_id])
        assert stage.inside.wait(30)
        assert jobs.cancel(database, job_id)
        stage.gate.set()
        working.result(30)
    assert sum(value for name, value in figures.values().items() if "_count" in name) == 0


def test_the_last_stage_ends_the_job(start: Start, job_factory: Any, database: Database) -> None:
    job_id = job_factory(answered=False).id
    start().message([job_id])
    assert row(database, job_id).status == "succeeded"


def test_one_bad_job_fails_alone(start: Start, job_factory: Any, database: Database) -> None:
    bad, good = job_factory(question="unreadable").id, job_factory(question="fine").id
    start().message([bad, good])
    failed = row(database, bad)
    assert (failed.status, failed.error_slug, failed.error_detail) == (
        "failed",
        "image-failed",
        "The picture is damaged.",
    )
    assert row(database, good).stage == "answer"


def test_a_transient_error_is_retried_up_to_the_cap(
    start: Start, job_factory: Any, database: Database
) -> None:
    job_id = job_factory(question="busy").id
    attempts = start(max_attempts=3)
    assert [attempts.message([job_id]) for _ in range(4)] == [1, 1, 1, 0]
    assert outcomes(database, job_id) == ["retry", "retry", "fail"]
    assert row(database, job_id).error_slug == "language-model-unavailable"


@pytest.mark.parametrize(
    ("question", "outcome", "failures"), [("closed", "release", 0), ("later", "retry", 1)]
)
def test_a_job_waits_in_the_database_for_as_long_as_a_server_asks(
    start: Start, job_factory: Any, database: Database, question: str, outcome: str, failures: int
) -> None:
    job_id = job_factory(question=question).id
    attempts = start()
    attempts.message([job_id])
    job = row(database, job_id)
    assert (job.status, job.failures, outcomes(database, job_id)) == ("queued", failures, [outcome])
    ended = database.read(lambda session: session.scalar(select(AttemptRow.ended_at)))
    assert ended is not None
    assert job.not_before - ended == job.due_at - ended == 40_000_000
    assert attempts.message([job_id]) == 0  # not yet


def test_an_unexpected_fault_tells_a_stranger_nothing_and_the_log_everything(
    start: Start, job_factory: Any, database: Database
) -> None:
    job_id = job_factory(question="bug").id
    with capture_logs() as logged:
        start(max_attempts=1).message([job_id])
    job = row(database, job_id)
    assert (job.status, job.error_slug) == ("failed", "unexpected-fault")
    assert "secret" not in (job.error_detail or "")
    fault = next(line for line in logged if line["event"] == "unexpected_fault")
    assert fault["exc_info"]


def test_a_message_that_is_delivered_twice_is_run_once(
    start: Start, stage: Asked, job_factory: Any, database: Database
) -> None:
    ids = [job_factory(question="fine").id for _ in range(20)]
    attempts = start()
    messages = [[job_id] for job_id in ids * 3] + [ids, ids[:7]]
    with ThreadPoolExecutor(12) as pool:
        done = sum(pool.map(attempts.message, messages))
    assert done == 20
    assert sorted(stage.ran) == sorted(ids)
    assert all(outcomes(database, job_id) == ["advance"] for job_id in ids)


def claims_of(database: Database, ids: list[str]) -> list[str | None]:
    query = select(AttemptRow.claim_id).where(AttemptRow.job_id.in_(ids))
    return list(database.read(lambda session: session.scalars(query).all()))


def test_single_ids_that_wait_are_dealt_with_together(
    start: Start, stage: Asked, job_factory: Any, database: Database
) -> None:
    busy = [job_factory(question="fine").id for _ in range(CLAIMS)]
    ids = [job_factory(question="fine").id for _ in range(5)]
    attempts = start()
    stage.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        first = []
        for job_id in busy:  # one after the other, so that each has a claim of its own
            stage.inside.clear()
            first.append(pool.submit(attempts.message, [job_id]))
            assert stage.inside.wait(30)
        waiting = [pool.submit(attempts.message, [job_id]) for job_id in ids]
        while len(attempts._singles._waiting[0]) < len(ids):
            threading.Event().wait(0.005)
        stage.gate.set()
        assert [future.result(30) for future in first + waiting] == [1] * 8
    assert len(set(claims_of(database, ids))) == 1
    assert {row(database, job_id).stage for job_id in ids} == {"answer"}


def test_a_slow_job_holds_up_no_other(start: Start, stage: Asked, job_factory: Any) -> None:
    slow = [job_factory(question="slow").id for _ in range(2 * CLAIMS)]
    quick = job_factory(question="passes").id
    attempts = start()
    stage.gate.clear()
    with ThreadPoolExecutor(len(slow)) as pool:
        futures = [pool.submit(attempts.message, [job_id]) for job_id in slow]
        assert attempts.message([quick]) == 1
        assert not any(future.done() for future in futures)
        stage.gate.set()
        assert [future.result(30) for future in futures] == [1] * len(slow)


def test_a_claim_that_could_not_be_recorded_keeps_no_lease(
    start: Start, job_factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = start()
    monkeypatch.setattr(jobs, "record", Mock(side_effect=OperationalError("", {}, Exception())))
    with pytest.raises(OperationalError):
        attempts._together([job_factory(question=question).id for question in ("fine", "slow")])
    assert not attempts.drain()


def test_an_unknown_job_is_nothing_to_do(start: Start) -> None:
    assert start().message([new_id()]) == 0
    assert start().message([new_id(), new_id()]) == 0


def test_a_worker_that_lost_its_job_writes_nothing(
    start: Start, stage: Asked, job_factory: Any, database: Database
) -> None:
    job_id = job_factory(question="fine").id
    attempts = start()
    stage.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(attempts.message, [job_id])
        assert stage.inside.wait(60)
        assert jobs.cancel(database, job_id)
        stage.gate.set()
        running.result(60)
    job = row(database, job_id)
    assert (job.status, job.findings) == ("canceled", None)


def test_a_running_stage_learns_that_its_job_was_canceled(
    start: Start, stage: Asked, job_factory: Any, database: Database
) -> None:
    job_id = job_factory(question="until lost").id
    attempts = start(lease_s=1.0)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(attempts.message, [job_id])
        assert stage.inside.wait(60)
        assert jobs.cancel(database, job_id)
        running.result(60)  # by itself the stage would go on for longer


def test_artifacts_of_a_job_that_was_erased_meanwhile_do_not_stay(
    start: Start, stage: Asked, job_factory: Any, database: Database, tmp_path: Path
) -> None:
    storage = FolderStorage(tmp_path / "blobs")
    erased, canceled = (job_factory(question="artifact").id for _ in range(2))
    stage.storage = storage
    attempts = start(late=partial(forget, database, storage))
    stage.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(attempts.message, [erased, canceled])
        assert stage.inside.wait(60)
        for job_id in (erased, canceled):
            assert jobs.cancel(database, job_id)
        retention.erase_job(database, storage, erased, Actor("", ""))
        stage.gate.set()
        running.result(60)
    assert list((tmp_path / "blobs").rglob(erased)) == []
    assert storage.exists(f"{canceled}/mask")  # it goes when this job is erased


def test_draining_gives_unfinished_jobs_back_uncounted(
    start: Start, stage: Asked, job_factory: Any, database: Database
) -> None:
    job_id = job_factory(question="fine").id
    attempts = start(drain_s=0.05)
    stage.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(attempts.message, [job_id])
        assert stage.inside.wait(60)
        assert attempts.drain()
        job = row(database, job_id)
        assert (job.status, job.stage, job.failures) == ("queued", "vision", 0)
        stage.gate.set()
        running.result(60)  # a zombie now
    assert outcomes(database, job_id) == ["release"]
    assert row(database, job_id).findings is None


def test_draining_an_idle_worker_gives_nothing_back(start: Start) -> None:
    assert not start(drain_s=5.0).drain()


def test_the_lease_of_long_work_is_renewed(
    start: Start, stage: Asked, job_factory: Any, database: Database
) -> None:
    job_id = job_factory(question="fine").id
    attempts = start(lease_s=1.0)
    stage.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(attempts.message, [job_id])
        assert stage.inside.wait(60)
        first = row(database, job_id).lease_until or 0
        for _ in range(1200):
            if (row(database, job_id).lease_until or 0) > first:
                break
            threading.Event().wait(0.05)
        else:
            pytest.fail("the lease was not renewed")
        stage.gate.set()
        assert running.result(60) == 1


@pytest.mark.parametrize("failures", [1, 2, 5, 40])
def test_pauses_double_within_bounds(failures: int) -> None:
    for _ in range(50):
        assert 2.0 <= pause_s(failures, 2.0) <= min(300.0, 2.0 * 2**failures)


def test_a_collector_hears_of_each_attempt_that_was_recorded(
    start: Start, job_factory: Any, database: Database
) -> None:
    exporter = InMemorySpanExporter()
    traces = Traces(exporter, "medq", "vision")
    attempts = start(traces=traces)
    fine, bad = job_factory(question="fine").id, job_factory(question="unreadable").id
    attempts.message([fine, bad])
    traces.close()
    spans = {
        (span.name, (span.attributes or {})["medq.job_id"]): span for span in exporter.get_finished_spans()
    }
    assert set(spans) == {("vision", fine), ("look", fine), ("vision", bad), ("look", bad), ("job", bad)}
    assert spans["look", fine].parent == spans["vision", fine].context
    assert spans["vision", bad].status.description == "image-failed"
