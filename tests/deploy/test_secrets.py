"""A whole system with something secret in every corner: neither logs, Redis, Flower nor `ps` show any of it."""

import io
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import redis
from PIL import Image

from deploy.run import System, running
from shared import keys
from shared.database import connect
from shared.settings import Settings
from tests.api.receiver import Receiver, receiving
from tests.faults.language_model import LanguageModel
from tests.packing import packed, pictures
from tests.servers import MariaDB, Redis, free_port
from tests.tiny import tiny_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

WORD = "Xylophone"  # in all that people send
BROKER, FLOWER, MODEL = "broker-Ahz7Quie", "flower-eiCh4ohzae5", "sk-Eiw6aiph0oyo"
SIGNING = "0123456789abcdef" * 2
PATIENCE = 60  # looks of up to five seconds each


@dataclass
class Run:
    """What a run of jobs left behind."""

    logs: str
    commands: list[dict[str, Any]]  # that Redis was sent
    contents: str  # of Redis
    flower: str
    command_lines: str
    jobs: list[dict[str, Any]]
    secrets: list[str] = field(default_factory=list)  # made by the run

    @property
    def planted(self) -> list[str]:
        return [WORD, BROKER, FLOWER, MODEL, SIGNING, MariaDB.PASSWORD, *self.secrets]

    @property
    def said(self) -> list[str]:
        """The beginnings of the answers' sentences, where no line is broken and nothing escaped."""
        return [job["answer"]["text"][:30] for job in self.jobs]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, mariadb_server: MariaDB) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("secrets")
    tiny_model(
        folder / "models", threshold=0.14
    )  # one of seven labels passes it, so a language model is asked
    mariadb_server.restore()
    with ExitStack() as stack:
        model, broker = LanguageModel(), Redis()
        for one in (model, broker):
            stack.callback(one.close)
        with broker.start().client() as client:
            client.config_set("requirepass", BROKER)
        settings = _settings(folder, mariadb_server, broker, model)
        receiver = stack.enter_context(receiving())
        commands = stack.enter_context(overheard(settings))
        system = stack.enter_context(running(settings, start_s=300))
        db = connect(settings.sqlalchemy_url)
        stack.callback(db.close)
        _, key = keys.create(db, "lab", keys.SCOPES)
        jobs, cookie = Visit(system.url, key, receiver, mariadb_server).jobs()
        yield Run(
            logs="".join(path.read_text(errors="replace") for path in settings.data_path.glob("logs/*")),
            commands=commands,
            contents=_contents(settings),
            flower=_flower(system),
            command_lines=_command_lines(system),
            jobs=jobs,
            secrets=[key.removeprefix("mq_"), cookie.removeprefix("mqs_")],
        )


def _settings(folder: Path, mariadb: MariaDB, broker: Redis, model: LanguageModel) -> Settings:
    return replace(
        Settings(),
        data_dir=str(folder / "var"),
        models_dir=str(folder / "models"),
        database_url=mariadb.create("medq_secrets"),
        broker_url=f"redis://:{BROKER}@127.0.0.1:{broker.port}/0",
        port=free_port(),
        flower_port=free_port(),
        flower_password=FLOWER,
        auth="keys",
        webhook_secret=SIGNING,
        webhook_allow="127.0.0.1",
        answers="openai",
        openai_api_key=MODEL,
        openai_base_url=model.url,
        openai_model="scripted-1",
        retry_base_s=0.1,
        redispatch_s=2.0,
        sweep_s=0.3,
        vision_threads=8,
        torch_threads=1,
        log_level="DEBUG",
    )


@contextmanager
def overheard(settings: Settings) -> Iterator[list[dict[str, Any]]]:
    """Every command that Redis is sent meanwhile, as it reports them itself."""
    heard: list[dict[str, Any]] = []
    listens = threading.Event()

    def listen() -> None:
        with (
            redis.Redis.from_url(settings.redis_location, socket_timeout=None) as client,
            client.monitor() as monitor,
        ):
            listens.set()
            for command in monitor.listen():
                heard.append(command)
                if "the end" in command["command"]:
                    return

    thread = threading.Thread(target=listen)
    thread.start()
    assert listens.wait(60)
    try:
        yield heard
    finally:
        with redis.Redis.from_url(settings.redis_location) as client:
            client.set("the end", 1)
        thread.join(60)


@dataclass
class Visit:
    """Somebody who sends secrets in every field, well and badly."""

    url: str
    key: str
    receiver: Receiver
    mariadb: MariaDB

    def jobs(self) -> tuple[list[dict[str, Any]], str]:
        """Finished jobs, and a session's cookie."""
        bearer = {"Authorization": f"Bearer {self.key}"}
        with httpx.Client(base_url=self.url, headers=bearer, timeout=60) as client:
            paths = [
                self._job(client, words)["urls"]["self"] for words in ("fine", "lm-500-1", "lm-garbage-1")
            ]
            batch = client.post("/v1/batches", files={"archive": (f"{WORD}.zip", self._archive())}).json()
            done = [self._ended(client, path) for path in paths]
            self._ended(client, batch["urls"]["self"])
            client.post(f"{paths[0]}/review", json={"verdict": "agree", "note": f"{WORD} note"})
            self._badly(client)
        for _ in range(600):
            if self.receiver.came:
                break
            threading.Event().wait(0.1)
        assert self.receiver.came
        with httpx.Client(base_url=self.url, timeout=60) as browser:
            assert browser.post("/v1/session", json={"key": self.key}).is_success
            assert browser.get(paths[0]).is_success
            return done, browser.cookies["medq_session"]

    def _job(self, client: httpx.Client, words: str) -> dict[str, Any]:
        answer = client.post(
            "/v1/jobs",
            data={
                "question": f"Question {words}/a: is the {WORD} on my back dangerous?",
                "metadata": f'{{"who": "{WORD}"}}',
                "webhook_url": f"http://127.0.0.1:{self.receiver.port}/{WORD}",
                "explain": "low",
            },
            files={"image": (f"{WORD}.jpg", _picture())},
            headers={"Idempotency-Key": f"{WORD} {words}"},
        )
        assert answer.status_code == 202, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def _archive(self) -> bytes:
        manifest = f"filename,question,custom_id\n{WORD}/a.jpg,Is the {WORD} dangerous?,{WORD}\n"
        files = {f"{WORD}/a.jpg": pictures(1)[0], f"{WORD}/b.jpg": b"no picture"}
        return packed("zip", files | {"manifest.csv": manifest.encode()})

    def _ended(self, client: httpx.Client, path: str) -> dict[str, Any]:
        for _ in range(PATIENCE):
            found: dict[str, Any] = client.get(f"{path}?wait=5").json()
            if found["completed_at"]:
                return found
        raise TimeoutError(path)

    def _badly(self, client: httpx.Client) -> None:
        """What is refused, and what fails because the database is away."""
        bad = [
            client.post("/v1/jobs", files={"image": (f"{WORD}.jpg", f"{WORD}, no picture")}),
            client.post("/v1/jobs", data={"age": WORD}, files={"image": (f"{WORD}.jpg", _picture())}),
            client.get("/v1/jobs", params={"status": WORD}),
            client.get("/v1/jobs", headers={"Authorization": f"Bearer {self.key[:-1]}"}),
        ]
        assert [one.status_code for one in bad] == [415, 400, 400, 401]
        self.mariadb.kill()
        data = {"question": f"Is the {WORD} dangerous?"}
        away = client.post("/v1/jobs", data=data, files={"image": (f"{WORD}.jpg", _picture())})
        self.mariadb.start()
        assert away.status_code == 503


def _picture() -> bytes:
    exif = Image.Exif()
    exif[0x010E] = f"{WORD}, the patient"  # ImageDescription
    file = io.BytesIO()
    Image.open(io.BytesIO(pictures(1)[0])).save(file, "JPEG", exif=exif, comment=WORD.encode())
    return file.getvalue()


def _contents(settings: Settings) -> str:
    """Of every key of Redis, in words."""
    readers = {b"string": "get", b"hash": "hgetall", b"set": "smembers"}
    found = []
    with redis.Redis.from_url(settings.redis_location) as client:
        for name in client.scan_iter():
            kind = client.type(name)
            if kind in (b"list", b"zset"):
                value = client.lrange(name, 0, -1) if kind == b"list" else client.zrange(name, 0, -1)
            else:
                value = getattr(client, readers[kind])(name)
            found.append(f"{name!r} {value!r}")
    return "\n".join(found)


def _flower(system: System) -> str:
    """Its pages and its API, with every task."""
    with httpx.Client(base_url=system.flower_url, auth=("medq", FLOWER), timeout=60) as client:
        tasks = client.get("/api/tasks", params={"limit": 1000}).json()
        workers = client.get("/api/workers", params={"refresh": 1}).json()
        assert tasks
        assert workers
        paths = [
            "/tasks",
            "/workers",
            "/broker",
            "/metrics",
            "/api/tasks",
            "/api/workers",
            "/api/queues/length",
        ]
        paths += [f"/{page}/{task}" for task in tasks for page in ("task", "api/task/info")]
        paths += [f"/worker/{worker}" for worker in workers]
        answers = [client.get(path) for path in paths]
    assert {answer.status_code for answer in answers} == {200}
    return "\n".join(answer.text for answer in answers)


def _command_lines(system: System) -> str:
    parent = psutil.Process(system.supervisor.pid)
    return "\n".join(" ".join(one.cmdline()) for one in [parent, *parent.children(recursive=True)])


def test_jobs_were_answered_by_the_language_model(run: Run) -> None:
    assert [job["answer"]["source"] for job in run.jobs] == ["language_model"] * 3
    retried = ["retry" in [one["outcome"] for one in job["attempts"]] for job in run.jobs]
    assert retried == [False, True, True]
    assert all(WORD in job["question"] and job["artifacts"]["explanation"] for job in run.jobs)


def test_logs(run: Run) -> None:
    assert all(job["id"] in run.logs for job in run.jobs)  # it is this run's
    assert [one for one in (*run.planted, *run.said) if one in run.logs] == []


def test_redis_while_jobs_run(run: Run) -> None:
    sent = [command["command"] for command in run.commands]
    assert any(run.jobs[0]["id"] in command for command in sent)
    assert [one for one in sent if any(secret in one for secret in run.planted)] == []
    drafts = [one for one in sent if any(words in one for words in run.said)]
    assert (
        drafts
    )  # an answer passes through while it is written, under its job's key, and for ten minutes at most
    assert {one.split()[1].rpartition(".")[0] for one in drafts} == {"medq.draft"}
    assert all(one.endswith("EX 600") for one in drafts)


def test_redis_afterwards(run: Run) -> None:
    assert "_kombu.binding" in run.contents
    assert [one for one in run.planted if one in run.contents] == []


def test_flower(run: Run) -> None:
    assert all(job["id"] in run.flower for job in run.jobs)
    assert [one for one in (*run.planted, *run.said) if one in run.flower] == []


def test_command_lines(run: Run) -> None:
    assert "workers.app" in run.command_lines
    assert [one for one in run.planted if one in run.command_lines] == []
