"""What the database says of a work: who was lost, what was recorded twice, how attempts ended."""

import re
from collections import Counter
from dataclasses import dataclass, field

from sqlalchemy import select

from shared.database import Database
from shared.errors import LanguageModelUnavailable, ModelsAway
from shared.lifecycle import Event
from shared.tables import AttemptRow, JobRow
from tests.faults.people import Work

AWAY = (LanguageModelUnavailable.slug, ModelsAway.slug)
NAME = re.compile(r"Question ([\w.-]+/\w+)")


class JobsLost(AssertionError):
    """A fault took jobs or doubled them. CI runs no such test again: once is enough."""


@dataclass
class Report:
    """One line of the table at the end of a run."""

    fault: str
    jobs: int  # that were accepted while it went on
    times: int = 1  # that it happened
    lost: list[str] = field(default_factory=list)  # jobs without their one right end
    doubled: list[str] = field(default_factory=list)  # jobs with a row, a result or an answer too many
    silent: int = 0  # attempts whose worker fell silent
    recovered_s: float = 0.0  # from the fault's end to the end of a job that was sent then; the longest


@dataclass(frozen=True)
class Evidence:
    jobs: dict[str, list[JobRow]]  # by name
    attempts: dict[str, list[AttemptRow]]

    @classmethod
    def of(cls, db: Database, work: Work) -> "Evidence":
        rows = db.read(lambda s: s.scalars(select(JobRow).where(JobRow.id > work.since)).all())
        names = {row.id: _name(row) for row in rows}
        jobs: dict[str, list[JobRow]] = {}
        for row in rows:
            jobs.setdefault(names[row.id], []).append(row)
        attempts: dict[str, list[AttemptRow]] = {name: [] for name in jobs}
        for one in db.read(
            lambda s: s.scalars(select(AttemptRow).where(AttemptRow.job_id > work.since)).all()
        ):
            if one.job_id in names:  # else its job came after the first look
                attempts[names[one.job_id]].append(one)
        return cls(jobs, attempts)

    def lost(self, work: Work, failing: frozenset[str] = frozenset()) -> list[str]:
        """Names that were accepted and did not come to the end that they should."""
        found = []
        for name in work.accepted:
            expected = "failed" if name in failing else "succeeded"
            if [row.status for row in self.jobs.get(name, ())] != [expected]:
                found.append(name)
        return sorted(found)

    def doubled(self, work: Work) -> list[str]:
        """Names with two rows, or with two attempts that both recorded what one stage found."""
        found = [name for name, rows in self.jobs.items() if len(rows) > 1 or name not in work.accepted]
        for name, attempts in self.attempts.items():
            recorded = Counter((one.stage, one.outcome) for one in attempts)
            good = [
                (stage, n)
                for (stage, outcome), n in recorded.items()
                if outcome in (Event.ADVANCE, Event.FINISH)
            ]
            if any(n > 1 for _, n in good) or len(good) > len({stage for stage, _ in good}):
                found.append(name)
        return sorted(found)

    def outcomes(self) -> Counter[str]:
        """How attempts ended; `open` for one that nobody closed."""
        return Counter(one.outcome or "open" for name in self.attempts for one in self.tried(name))

    def tried(self, name: str) -> list[AttemptRow]:
        """The attempts at a job but for those that a busy machine's language model kept waiting for too long."""
        return [one for one in self.attempts[name] if one.error not in AWAY]

    def asked_too_often(self, calls: Counter[str]) -> list[str]:
        """Names of which the language model heard more often than there were attempts at an answer."""
        answers = {name: sum(a.stage == "answer" for a in every) for name, every in self.attempts.items()}
        return [name for name, number in answers.items() if calls[name] > number]


def _name(row: JobRow) -> str:
    found = NAME.search(row.question or "")
    return found[1] if found else row.id
