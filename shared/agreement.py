"""How often clinicians agree with what was found, by label and by the network that found it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from typing import Any

from sqlalchemy import Row, exists, select
from sqlalchemy.orm import aliased

from shared.database import Database
from shared.tables import JobRow, ReviewRow

Z = 1.959964  # of a normal distribution, for an interval of 95 %


@dataclass
class Agreement:
    """Reviews of one label by one network; the last word on a job is the one that counts."""

    pipeline: str
    label: str | None  # the first finding's; None where nothing was named
    model: str | None
    version: str | None
    sha256: str | None  # of the weights: two networks may bear one version
    agreed: int = 0
    disagreed: int = 0
    instead: Counter[str] = field(
        default_factory=Counter
    )  # what it was said to be, of those that disagree and say

    @property
    def reviewed(self) -> int:
        return self.agreed + self.disagreed


def of(db: Database, owner: str, *, pipeline: str | None = None, since: int | None = None) -> list[Agreement]:
    """Of an owner's jobs, the most reviewed first; `since` is when the first word may have been said.

    Only an owner reviews a job, so the owner's reviews are all there is to read, however many jobs there are.

    Units: since in microseconds since 1970
    """
    later = aliased(ReviewRow)
    statement = (
        select(JobRow.pipeline, JobRow.findings, JobRow.model, ReviewRow.verdict, ReviewRow.label)
        .join(JobRow, JobRow.id == ReviewRow.job_id)
        .where(ReviewRow.owner == owner)
        .where(~exists().where(later.job_id == ReviewRow.job_id, later.id > ReviewRow.id))
    )
    if pipeline is not None:
        statement = statement.where(JobRow.pipeline == pipeline)
    if since is not None:
        statement = statement.where(ReviewRow.created_at >= since)
    return counted(db.read(lambda session: session.execute(statement).all()))


def counted(rows: Sequence[Row[Any]]) -> list[Agreement]:
    found: dict[tuple[str | None, ...], Agreement] = {}
    for row in rows:
        model = row.model or {}
        label = row.findings[0]["label"] if row.findings else None
        key = (row.pipeline, label, model.get("name"), model.get("version"), model.get("sha256"))
        group = found.setdefault(key, Agreement(*key))
        if row.verdict == "agree":
            group.agreed += 1
        else:
            group.disagreed += 1
            group.instead.update([row.label] if row.label else [])
    return sorted(found.values(), key=lambda one: (-one.reviewed, one.pipeline, one.label or ""))


def by_network(found: Sequence[Agreement]) -> list[Agreement]:
    """The same whatever the label, the most reviewed first."""
    networks: dict[tuple[str | None, ...], Agreement] = {}
    for one in found:
        key = (one.pipeline, one.model, one.version, one.sha256)
        start = replace(one, label=None, agreed=0, disagreed=0, instead=Counter())
        group = networks.setdefault(key, start)
        group.agreed += one.agreed
        group.disagreed += one.disagreed
        group.instead.update(one.instead)
    return sorted(networks.values(), key=lambda one: (-one.reviewed, one.pipeline))


def interval(agreed: int, reviewed: int) -> tuple[float, float]:
    """Where the share of agreement lies in 95 of 100 such samples. Of none it may be anything: (0, 1).

    Source: Wilson 1927, doi:10.1080/01621459.1927.10502953
    """
    if not reviewed:
        return 0.0, 1.0
    share, scale = agreed / reviewed, 1 + Z**2 / reviewed
    middle = (share + Z**2 / (2 * reviewed)) / scale
    half = Z * sqrt(share * (1 - share) / reviewed + Z**2 / (4 * reviewed**2)) / scale
    return max(0.0, middle - half), min(1.0, middle + half)
