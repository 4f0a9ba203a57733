"""The main job on the whole system, with the shipped network and real pictures, embedded and on real servers."""

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import psutil
import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import func, select

from api.client import Client
from deploy.run import System, running
from shared.cards import ModelCard, load_card
from shared.catalog import PIPELINES
from shared.database import connect
from shared.schemas import Job
from shared.settings import ROOT, Settings
from shared.tables import AttemptRow
from tests.servers import MariaDB, Redis, free_port
from tests.shared_data import shared_data
from training.evaluate import outcome_of
from training.importers import read_data
from training.samples import Archives, Sample
from workers.serving import pick_dtype

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COUNT = 300
CLIENTS = 16
SITES = ("back", "face", "scalp")
MODEL = ROOT / "workers/models/skin"


@dataclass(frozen=True)
class Place:
    """A running system with what a test needs to look behind it."""

    system: System
    settings: Settings
    broker: Callable[[], dict[str, int]]  # commands that Redis has counted
    prompts: Path  # what the scripted language model was sent, one body a line

    @property
    def tolerance(self) -> float:
        dtype = pick_dtype(self.settings, torch.device("cpu"), load_card(MODEL))
        return 2e-2 if dtype is torch.bfloat16 else 1e-4


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """Every fifth picture of `test`: all seven labels, both sizes of copy."""
    everything = read_data(shared_data("skin"), PIPELINES["skin"])
    return [sample for sample in everything if sample.split == "test"][::5][:COUNT]


@pytest.fixture(scope="module")
def card() -> ModelCard:
    return load_card(MODEL)


@pytest.fixture(scope="module")
def evaluated(samples: list[Sample], card: ModelCard) -> list[dict[str, float]]:
    """What `make evaluate` finds, in float32 and without a worker."""
    _, rows = outcome_of(card, MODEL, "skin", samples)
    return [dict(zip(card.labels, row, strict=True)) for row in rows.tolist()]


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    port, kept = free_port(), tmp_path_factory.mktemp("llm") / "bodies.jsonl"
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.scripted_llm", str(port), str(kept)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    assert child.stdout
    assert child.stdout.readline()
    yield f"http://127.0.0.1:{port}/v1", kept
    child.terminate()
    child.wait()
    child.stdout.close()


@pytest.fixture(scope="module", params=["embedded", "mariadb and redis"])
def place(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    language_model: tuple[str, Path],
) -> Iterator[Place]:
    shared_data("skin")
    data = tmp_path_factory.mktemp("system")
    settings = Settings(
        data_dir=str(data),
        port=free_port(),
        flower_port=free_port(),
        answers="openai",
        openai_api_key="scripted",
        openai_base_url=language_model[0],
        openai_model="scripted-1",
        lease_s=10.0,
        redispatch_s=4.0,
        sweep_s=0.3,
    )
    redis_server: Redis | None = None
    if request.param != "embedded":
        mariadb: MariaDB = request.getfixturevalue("mariadb_server")
        redis_server = Redis().start()
        settings = replace(
            settings,
            database_url=mariadb.create("medq_system"),
            broker_url=redis_server.tcp_url,
            dtype="float32",
        )
    with running(settings, start_s=300) as system:
        yield Place(system, settings, lambda: commands(settings), language_model[1])
    if redis_server:
        redis_server.close()


def commands(settings: Settings) -> dict[str, int]:
    import redis

    with redis.Redis.from_url(settings.redis_location) as client:
        stats = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): value["calls"] for name, value in stats.items()}


def submit_all(
    place: Place,
    samples: list[Sample],
    *,
    external: bool,
    meanwhile: Callable[[int], None] = lambda done: None,
) -> list[Job]:
    """Every picture by one of 16 clients, each waited for to its end."""
    own = threading.local()
    done: list[str] = []

    def one(numbered: tuple[int, Sample]) -> Job:
        number, sample = numbered
        opened = own.__dict__.setdefault("archives", Archives())
        with Client(place.system.url) as client:
            job = client.submit(
                sample.copies[0].read(opened),
                filename=f"{sample.id}.jpg",
                question=f"Question number {number}: is this dangerous?",
                age=20 + number % 60,
                sex="female" if number % 2 else "male",
                site=SITES[number % len(SITES)],
                external=external,
            )
            ended = client.wait(job.id)
        done.append(ended.id)
        meanwhile(len(done))
        return ended

    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(one, enumerate(samples)))


def check_findings(place: Place, found: list[Job], evaluated: list[dict[str, float]]) -> None:
    for job, expected in zip(found, evaluated, strict=True):
        assert job.status == "succeeded", job.error
        assert job.findings
        values = {finding.label: finding.probability for finding in job.findings}
        assert values == pytest.approx(expected, abs=place.tolerance), job.input
        first, second = sorted(expected.values(), reverse=True)[:2]
        if first - second > 0.02:
            assert job.findings[0].label == max(expected, key=lambda label: expected[label])


def attempts_of(place: Place) -> dict[tuple[str, str], int]:
    """How many attempts ended how, by stage."""
    db = connect(place.settings.sqlalchemy_url)
    query = select(AttemptRow.stage, AttemptRow.outcome, func.count()).group_by(
        AttemptRow.stage, AttemptRow.outcome
    )
    rows = db.read(lambda session: session.execute(query).all())
    db.close()
    return {(stage, outcome): count for stage, outcome, count in rows}


def flower_counts(place: Place) -> dict[str, int]:
    """Messages that Flower saw arrive, by task, over all workers."""
    text = httpx.get(f"{place.system.flower_url}/metrics", timeout=60).text
    counts: dict[str, int] = {}
    pattern = r'flower_events_total\{task="([\w.]+)",type="task-received",worker="[^"]+"\} ([\d.]+)'
    for task, value in re.findall(pattern, text):
        counts[task] = counts.get(task, 0) + int(float(value))
    return counts


def counted(place: Place) -> dict[tuple[str, str], int]:
    """Jobs that workers say they have dealt with, by stage and outcome, from the API's /metrics."""
    families = text_string_to_metric_families(httpx.get(f"{place.system.url}/metrics", timeout=60).text)
    return {
        (sample.labels["stage"], sample.labels["outcome"]): int(sample.value)
        for family in families
        for sample in family.samples
        if sample.name == "medq_stage_seconds_count" and sample.value
    }


def test_real_pictures_get_the_findings_that_evaluation_gives_them(
    place: Place, samples: list[Sample], evaluated: list[dict[str, float]]
) -> None:
    before, seen = place.broker(), flower_counts(place)
    found = submit_all(place, samples, external=False)
    check_findings(place, found, evaluated)
    assert all(job.answer and job.answer.source == "reference" for job in found)
    assert attempts_of(place) == {("vision", "advance"): COUNT, ("answer", "finish"): COUNT}
    # Flower: every worker, and as many tasks as messages were sent. The broker's own count is the witness.
    sent = place.broker()["lpush"] - before.get("lpush", 0)
    for _ in range(600):
        counts = {task: value - seen.get(task, 0) for task, value in flower_counts(place).items()}
        if sum(counts.values()) >= sent:
            break
        threading.Event().wait(0.1)
    assert sum(counts.values()) == sent
    assert counts.keys() == {"medq.vision", "medq.answer"}
    assert min(counts.values()) >= COUNT  # more where a job waited so long that it was sent again
    # /metrics: workers in other processes, which tell what they counted every two seconds
    expected = {("vision", "advance"): COUNT, ("answer", "finish"): COUNT}
    for _ in range(600):
        if counted(place) == expected:
            break
        threading.Event().wait(0.1)
    assert counted(place) == expected
    workers = httpx.get(f"{place.system.flower_url}/workers", timeout=60).text
    assert "vision@" in workers
    assert "answer@" in workers


def test_nothing_is_lost_or_doubled_when_the_vision_worker_is_killed(
    place: Place, samples: list[Sample], evaluated: list[dict[str, float]]
) -> None:
    place.prompts.write_text("")
    before = attempts_of(place)
    killed: list[int] = []

    def kill_halfway(done: int) -> None:
        if done == COUNT // 3:
            killed.extend(kill_vision(place))

    found = submit_all(place, samples, external=True, meanwhile=kill_halfway)
    assert killed
    check_findings(place, found, evaluated)
    after = attempts_of(place)
    assert after["vision", "advance"] - before["vision", "advance"] == COUNT
    assert after["answer", "finish"] - before["answer", "finish"] == COUNT
    assert vision_processes(place)[0].pid not in killed  # supervisor's work; nobody else could
    check_prompts(place, found)


def vision_processes(place: Place) -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process(place.system.supervisor.pid).children(recursive=True)
        if child.cmdline()[-2:] == ["workers.app", "vision"]
    ]


def kill_vision(place: Place) -> list[int]:
    pids = [process.pid for process in vision_processes(place)]
    for process in vision_processes(place):
        process.send_signal(signal.SIGKILL)
    return pids


def refused(job: Job) -> bool:
    return any(warning.code == "out_of_distribution" for warning in job.warnings)


def check_prompts(place: Place, found: list[Job]) -> None:
    """One request per job, holding the question, findings, age, sex, site and passages of that job.

    None about the few pictures that the network takes for foreign: nobody interprets them.
    """
    sent: dict[str, str] = {}
    for line in place.prompts.read_text().splitlines():
        text = "\n".join(message["content"] for message in json.loads(line)["messages"])
        number = re.search(r"Question number (\d+):", text)
        assert number
        assert number[1] not in sent, "asked twice"
        sent[number[1]] = text
    foreign = {index for index, job in enumerate(found) if refused(job)}
    assert len(foreign) < COUNT / 20
    assert len(sent) == COUNT - len(foreign)
    for index, job in enumerate(found):
        assert job.answer
        if index in foreign:
            assert (job.answer.source, str(index) in sent) == ("reference", False)
            continue
        text = sent[str(index)]
        assert (job.answer.source, job.answer.model) == ("language_model", "scripted-1")
        assert job.findings
        for finding in job.findings:
            assert finding.name in text
            assert f'"probability": {round(finding.probability, 4)}' in text
        for name, value in (("age", job.age), ("sex", job.sex), ("site", job.site)):
            assert f"<{name}>{json.dumps(value)}</{name}>" in text
        assert all(citation.quote in text for citation in job.answer.citations)
