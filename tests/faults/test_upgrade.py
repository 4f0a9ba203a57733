"""An upgrade under load: the database is migrated while people work, and workers of two versions share it."""

from dataclasses import replace
from pathlib import Path

from sqlalchemy import func, select

from shared.settings import ROOT
from shared.tables import AttemptRow
from tests.faults import previous
from tests.faults.room import Room, grown

ROLES = ("vision", "answer")


def test_an_older_worker_beside_a_newer_one_while_the_database_is_migrated(
    room: Room, tmp_path: Path
) -> None:
    """The older is that of the commit before the newest migration; where no history reaches so far, today's.

    Its schema is two steps behind then: the newest migration, and one that is made here while people work.
    """
    commit = previous.previous_commit()
    tree = previous.unpack(commit, tmp_path) if commit else ROOT
    fault = f"upgrade beside {commit[:7] or 'itself'}"
    allowed = replace(room.settings, max_attempts=20)  # the older version accepts no more
    with previous.workers_of(tree, allowed, *ROLES) as older:
        room.until(lambda: room.said("previous", '"ready"') == len(ROLES))
        with room.met(fault) as meeting:
            room.until(lambda: all(ended_by(room, pid) for pid in older.values()))
            with previous.migrated_to_come(room.settings.sqlalchemy_url):
                both = [grown(lambda pid=pid: ended_by(room, pid)) for pid in older.values()]
                room.until(lambda: all(grew() for grew in both))
                meeting.recovered()
    assert set(meeting.outcomes) <= {"advance", "finish", "release", "lose"}


def ended_by(room: Room, pid: int) -> int:
    """Attempts of that process that came to their end."""
    where = (AttemptRow.worker.endswith(f":{pid}"), AttemptRow.outcome.in_(("advance", "finish")))
    return room.db.read(lambda s: s.scalar(select(func.count()).select_from(AttemptRow).where(*where))) or 0
