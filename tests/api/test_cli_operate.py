"""`medq top|pause|resume|drain|requeue` against the real app."""

import json
import threading
from collections.abc import Callable

import pytest
from typer.testing import Result

from shared import jobs
from shared.errors import UnexpectedFault
from shared.job_types import Outcome
from shared.lifecycle import Event
from tests.api.live import Live
from tests.api.test_cli import image, live, medq, sqlite

__all__ = ["image", "live", "medq"]  # fixtures
pytestmark = sqlite
Medq = Callable[..., Result]


def submitted(medq: Medq, image: str) -> str:
    return medq("submit", image, "--no-wait").stdout.strip()


def test_pausing_and_resuming_say_what_they_do(medq: Medq, live: Live, image: str) -> None:
    paused = medq("pause", "skin", "--lane", "interactive", "--note", "new weights")
    assert paused.exit_code == 0, paused.stderr
    assert "People's jobs of skin wait" in paused.stderr
    assert "medq resume skin --lane interactive" in paused.stderr
    job_id = submitted(medq, image)
    assert jobs.claim(live.db, [job_id], "vision", "w", lease_s=9, limit_s=9).jobs == ()
    assert medq("resume", "skin", "--lane", "interactive").exit_code == 0
    assert live.claim(job_id, "vision").jobs
    again = medq("resume", "skin", "--lane", "interactive")
    assert again.exit_code == 1
    assert "no such pause" in again.stderr


@pytest.mark.parametrize("words", [("hair",), ("skin", "--lane", "slow"), ("../jobs",)])
def test_what_does_not_exist_is_not_paused(medq: Medq, words: tuple[str, ...]) -> None:
    assert medq("pause", *words).exit_code in (1, 2)


def test_draining_waits_for_what_runs(medq: Medq, live: Live, image: str) -> None:
    job_id = submitted(medq, image)
    claim = live.claim(job_id, "vision")
    drained: list[Result] = []
    thread = threading.Thread(target=lambda: drained.append(medq("drain")))
    thread.start()
    for _ in range(3000):
        if live.rooms.db.read(
            lambda session: session.connection().exec_driver_sql("SELECT 1 FROM pauses").all()
        ):
            break
        threading.Event().wait(0.01)
    assert not drained
    outcome = Outcome(job_id, claim.id, Event.ADVANCE, stage="answer")
    assert jobs.record(live.db, [outcome], max_attempts=3, redispatch_s=30)
    thread.join(60)
    assert drained[0].exit_code == 0, drained[0].stderr
    assert "No job runs" in drained[0].stderr
    assert jobs.claim(live.db, [job_id], "answer", "w", lease_s=9, limit_s=9).jobs == ()


def test_requeueing_says_how_many_go_again(medq: Medq, live: Live, image: str) -> None:
    waiting, failed = submitted(medq, image), submitted(medq, image)
    claim = live.claim(failed, "vision")
    outcome = Outcome(failed, claim.id, Event.FAIL, error=UnexpectedFault())
    assert jobs.record(live.db, [outcome], max_attempts=3, redispatch_s=30)
    done = medq("requeue", "--failed", "1", "--json")
    assert done.exit_code == 0, done.stderr
    (answer,) = map(json.loads, done.stdout.splitlines())
    assert (answer["waiting"], len(answer["rerun"]), answer["next"]) == (1, 1, None)
    assert waiting not in answer["rerun"]
    assert "0 failed ones" in medq("requeue", "--failed", "1").stderr


def test_top_shows_the_system_once(medq: Medq, live: Live, image: str) -> None:
    submitted(medq, image)
    shown = medq("top", "--once", "--every", "0.2")
    assert shown.exit_code == 0, shown.stderr
    assert "1 queued" in shown.stdout
    assert "vision" in shown.stdout


def test_top_for_machines_is_one_object_for_each_look(medq: Medq, live: Live) -> None:
    shown = medq("top", "--once", "--json", "--every", "0.2")
    assert shown.exit_code == 0, shown.stderr
    (seen,) = map(json.loads, shown.stdout.splitlines())
    assert seen["broker"] is True
    assert seen["workers"] == {"vision": 0, "answer": 0, "archive": 0, "sweeper": 0}
    assert seen["requests"]["rate"] > 0
