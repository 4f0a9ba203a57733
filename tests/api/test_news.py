import json
from datetime import UTC, datetime
from typing import Any

import pytest

from api.news import Seen, drafting, news, piece
from api.views import Shown
from shared.schemas import Job
from tests.api.driving import ANSWER, FINDINGS

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WRITING = {
    "stage": "answer",
    "number": 2,
    "worker": "w",
    "started_at": NOW,
    "ended_at": None,
    "outcome": None,
}
KEYS = (
    "eta_s", "batch_id", "retry_of", "question", "age", "sex", "site", "metadata", "input", "findings", "grades",
    "segments", "model", "answer", "error", "started_at", "completed_at", "position",
)  # fmt: skip


def shown(version: int, **values: Any) -> Shown:
    urls = {
        "self": "/j",
        "events": "/j/events",
        "cancel": "/j/cancel",
        "rerun": "/j/rerun",
        "messages": "/j/messages",
    }
    plain = dict.fromkeys(KEYS) | {
        "id": "j", "pipeline": "skin", "status": "queued", "stage": "vision", "progress": 0, "lang": "en",
        "warnings": [], "artifacts": {}, "attempts": [], "metrics": {}, "created_at": NOW, "urls": urls,
    }  # fmt: skip
    return Shown(version, Job.model_validate(plain | values))


LIFE = (
    shown(1, position=2),
    shown(1, position=1),
    shown(2, status="running"),
    shown(3, status="running", stage="answer", findings=FINDINGS),
    shown(4, status="running", stage="answer", findings=FINDINGS, attempts=[WRITING]),
    shown(5, status="succeeded", stage=None, findings=FINDINGS, answer=ANSWER),
)
TOLD = (
    ["status", "stage"],
    ["status"],
    ["status"],
    ["status", "stage", "findings"],
    ["status"],
    ["status", "answer", "completed"],
)


def test_a_life_is_told_once_and_in_order() -> None:
    seen, names = Seen(), []
    for moment in LIFE:
        events = news(seen, moment)
        names.append([event.name for event in events])
        seen = events[-1].seen
        assert news(seen, moment) == []
    assert tuple(names) == TOLD


@pytest.mark.parametrize("cut", range(len(LIFE)))
def test_who_comes_back_hears_the_rest_and_nothing_twice(cut: int) -> None:
    once = {"findings", "answer", "completed", "stage"}
    seen, first, second = Seen(), [], []
    for number, moment in enumerate(LIFE):
        events = news(seen, moment)
        (first if number <= cut else second).extend(event.name for event in events)
        seen = Seen.parse(str(events[-1].seen)) if number == cut else events[-1].seen
    told = [name for name in first + second if name in once]
    assert told == [name for names in TOLD for name in names if name in once]


def test_who_slept_through_everything_hears_it_in_one_go() -> None:
    names = [event.name for event in news(Seen(), LIFE[-1])]
    assert names == ["status", "findings", "answer", "completed"]


@pytest.mark.parametrize(
    "id", ["", "x", "1", "1.x.f.1", "1..z.0.0", "-1..f.0.0", "9" * 30 + "..f.0.0", "1..f.0.0\n"]
)
def test_an_id_that_is_not_ours_has_seen_nothing(id: str) -> None:
    assert Seen.parse(id) == Seen()


def test_a_draft_is_told_from_where_it_was_left() -> None:
    first = piece(Seen(), 2, "Bonjour é")
    assert first
    assert first.data == {"attempt": 2, "offset": 0, "text": "Bonjour é"}
    seen = Seen.parse(str(first.seen))
    assert piece(seen, 2, "Bonjour é") is None
    assert piece(seen, 2, "") is None
    more = piece(seen, 2, "Bonjour é!")
    assert more
    assert more.data == {"attempt": 2, "offset": 9, "text": "!"}
    again = piece(more.seen, 3, "Non")
    assert again
    assert again.data == {"attempt": 3, "offset": 0, "text": "Non"}


def test_only_an_attempt_that_writes_has_a_draft() -> None:
    assert [drafting(moment) for moment in LIFE] == [0, 0, 0, 0, 2, 0]


def test_an_event_is_one_line_of_data_whatever_it_holds() -> None:
    event = piece(Seen(), 1, "a\nb\r\n\u2028event: x\n\n")
    assert event
    lines = event.encode().split(b"\n")
    assert [line.partition(b":")[0] for line in lines] == [b"event", b"id", b"data", b"", b""]
    assert json.loads(lines[2][6:])["text"] == "a\nb\r\n\u2028event: x\n\n"
