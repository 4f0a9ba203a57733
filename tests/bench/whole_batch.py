"""All of HAM10000 through one `medq batch`, as it is and with every process killed once on the way.

    python -m tests.bench.whole_batch --database sqlite|mariadb [--kill] [--question TEXT]

With --kill the batch runs twice, first undisturbed, and the two tables of results are compared.
Takes minutes. Exits with 1 if an entry did not succeed, or if the kills changed a result.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console
from sklearn.metrics import balanced_accuracy_score
from sqlalchemy import select

from deploy.run import System, running
from shared import batches
from shared.database import Database, connect
from shared.settings import ROOT, Settings, environment_with
from shared.tables import BatchRow
from tests import processes
from tests.servers import MariaDB, Redis, free_port

DATA = ROOT.parent / "shared/data/skin"
ARCHIVE = DATA / "ham10000_images_200x150.zip"
SPLIT = DATA / "ham10000_metadata_split.csv"
# Who dies once this share of the entries is read, or of the jobs over.
KILLS = {
    "archive": ("read", 0.15),
    "redis": ("over", 0.15),
    "vision": ("over", 0.3),
    "api": ("over", 0.45),
    "sweeper": ("over", 0.6),
    "answer": ("over", 0.75),
}
# All that may differ between two runs
OWN = {"job_id"}
TOLERANCE = 1e-4  # of a probability: float32 rounds by the composition of a microbatch


@dataclass
class Place:
    system: System
    settings: Settings
    db: Database
    redis: Redis | None  # None: the process manager's


@dataclass
class Run:
    seconds: float
    rows: dict[str, dict[str, str]]  # results.csv by file name
    killed: dict[str, str] = field(default_factory=dict)  # role to where the batch stood


@contextmanager
def place(database: str, scratch: Path) -> Iterator[Place]:
    settings = replace(
        Settings(),
        data_dir=str(scratch / "var"),
        port=free_port(),
        flower_port=free_port(),
        lease_s=5.0,
        redispatch_s=5.0,
    )
    with ExitStack() as stack:
        redis = None
        if database == "mariadb":
            server, redis = MariaDB(), Redis()
            for one in (server, redis):
                stack.callback(one.close)
                one.start()
            settings = replace(settings, database_url=server.create("medq"), broker_url=redis.tcp_url)
        system = stack.enter_context(running(settings))
        db = connect(settings.sqlalchemy_url)
        stack.callback(db.close)
        yield Place(system, settings, db, redis)


def run(here: Place, scratch: Path, question: str | None, kills: dict[str, tuple[str, float]]) -> Run:
    """One batch by the command line; `kills` happen beside it."""
    output = scratch / f"results-{len(kills)}.csv"
    command = [sys.executable, "-m", "api.cli", "batch", str(ARCHIVE), "-o", str(output)]
    command += ["--question", question] if question else []
    variables = {"MEDQ_URL": here.system.url, "XDG_STATE_HOME": str(scratch), "HOME": str(scratch)}
    known = _batch_ids(here.db)
    began = time.monotonic()
    # What the embedded system was started with must not reach the client.
    client = subprocess.Popen(command, cwd=ROOT, env=environment_with(variables), stdout=subprocess.DEVNULL)
    over, killed = threading.Event(), dict[str, str]()
    murderer = threading.Thread(target=_murder, args=(here, known, kills, over, killed))
    murderer.start()
    code = client.wait()
    over.set()
    murderer.join()
    if code:
        raise SystemExit(f"medq batch ended with {code}")
    if missed := set(kills) - set(killed):
        raise SystemExit(f"the batch was over before {', '.join(missed)} could be killed")
    with output.open(newline="", encoding="utf-8") as file:
        rows = {row["filename"]: row for row in csv.DictReader(file)}
    return Run(time.monotonic() - began, rows, killed)


def _batch_ids(db: Database) -> set[str]:
    return set(db.read(lambda session: session.scalars(select(BatchRow.id)).all()))


def _murder(
    here: Place,
    known: set[str],
    kills: dict[str, tuple[str, float]],
    over: threading.Event,
    killed: dict[str, str],
) -> None:
    while not (new := _batch_ids(here.db) - known):
        if over.wait(0.1):
            return
    (batch_id,) = new
    for role, (measure, share) in kills.items():
        while (now := _shares(here.db, batch_id))[measure] < share:
            if over.wait(0.05):
                return
        if role == "redis" and here.redis:
            here.redis.restart()  # empty: it keeps nothing on the disk
        elif not processes.kill(here.system, role):
            continue
        killed[role] = f"{now['read']:.0%} read, {now['over']:.0%} over"


def _shares(db: Database, batch_id: str) -> dict[str, float]:
    def work(session: "object") -> tuple[BatchRow, batches.Counts]:
        row = session.get_one(BatchRow, batch_id)  # type: ignore[attr-defined]
        return row, batches.counts(session, [batch_id])[batch_id]  # type: ignore[arg-type]

    row, counts = db.read(work)
    entries = row.entries or sys.maxsize
    return {"read": row.entry / entries, "over": counts.ended / entries}


def differences(first: Run, second: Run) -> tuple[int, float]:
    """Rows that differ in anything but a probability's last digits, and the largest such difference."""
    other, largest = len(first.rows.keys() ^ second.rows.keys()), 0.0
    for name in first.rows.keys() & second.rows.keys():
        one, two = first.rows[name], second.rows[name]
        apart = [column for column in one if column not in OWN and one[column] != two[column]]
        numbers = [column for column in apart if column.startswith("p_") or column == "probability"]
        gaps = [abs(float(one[column] or "nan") - float(two[column] or "nan")) for column in numbers]
        largest = max([largest, *gaps])
        other += len(numbers) < len(apart) or not all(gap <= TOLERANCE for gap in gaps)
    return other, largest


def balanced_accuracy(rows: dict[str, dict[str, str]]) -> float:
    """Of the first findings, on the ids of `test`."""
    with SPLIT.open(newline="", encoding="utf-8") as file:
        truth = {row["image_id"]: row["dx"] for row in csv.DictReader(file) if row["split"] == "test"}
    found = {Path(name).stem: row["finding"] for name, row in rows.items()}
    ids = sorted(truth)
    return float(balanced_accuracy_score([truth[one] for one in ids], [found[one] for one in ids]))


def say(console: Console, title: str, one: Run) -> bool:
    good = sum(row["status"] == "succeeded" for row in one.rows.values())
    console.print(
        f"  {title:<12} {good:,} of {len(one.rows):,} succeeded in {one.seconds:.1f} s, "
        f"balanced accuracy on test {balanced_accuracy(one.rows):.4f}"
    )
    for role, where in one.killed.items():
        console.print(f"    SIGKILL of {role:<8} at {where}")
    return good == len(one.rows) > 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.whole_batch", description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "mariadb"), default="sqlite")
    parser.add_argument("--kill", action="store_true", help="once more, with every process killed once")
    parser.add_argument("--question", help="ask this about every picture, so that each is answered in words")
    options = parser.parse_args()
    console = Console()
    kills = {role: at for role, at in KILLS.items() if role != "answer" or options.question}
    with (
        tempfile.TemporaryDirectory(prefix="medq-") as scratch,
        place(options.database, Path(scratch)) as here,
    ):
        console.print(f"[bold]{ARCHIVE.name} in one batch[/bold], {options.database}, {os.cpu_count()} cores")
        plain = run(here, Path(scratch), options.question, {})
        fine = say(console, "undisturbed", plain)
        if options.kill:
            disturbed = run(here, Path(scratch), options.question, kills)
            fine &= say(console, "with kills", disturbed)
            other, largest = differences(plain, disturbed)
            console.print(f"  {other} rows differ; probabilities by {largest:.1e} at most")
            fine &= other == 0
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
