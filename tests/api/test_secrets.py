"""What people send and keys are: never in logs, never through Redis, and in refusals no more than was wrong."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from flask import Flask

from api.courier import Courier
from shared import logs
from shared.database import Database
from tests.api.batching import Hands, accepted, pictures, zipped
from tests.api.driving import ONE_DATABASE, Worker, post, submitted
from tests.api.people import Person
from tests.servers import Redis, free_port
from workers.sweeper import Sweeper

pytestmark = ONE_DATABASE

QUESTION, NAME, NOTE, HOOK = "Xylophone-question", "Xylophone-surname.jpg", "Xylophone-note", "Xylophone-hook"


@pytest.fixture
def overheard(broker: Redis) -> Iterator[list[str]]:
    """Every command that reaches Redis, as it reports them itself."""
    heard: list[str] = []
    started, over = threading.Event(), threading.Event()

    def listen() -> None:
        with (
            redis.Redis(unix_socket_path=str(broker.socket), socket_timeout=None) as client,
            client.monitor() as monitor,
        ):
            started.set()
            for command in monitor.listen():
                heard.append(str(command))
                if "the end" in heard[-1]:
                    over.set()
                    return

    thread = threading.Thread(target=listen)
    thread.start()
    assert started.wait(60)
    yield heard
    with broker.client() as client:
        client.set("the end", 1)
    thread.join(60)
    assert over.is_set()
    assert len(heard) > 10  # it did listen
    assert not [command for command in heard if "Xylophone" in command or "mq_" in command]


def test_patients_and_keys_stay_out_of_logs_redis_and_refusals(
    start: Callable[..., Flask], worker: Worker, database: Database, overheard: list[str], capsys: Any
) -> None:
    logs.configure("DEBUG", "json", "test")
    app = start(
        auth="keys", webhook_secret="0123456789abcdef" * 2, webhook_allow="127.0.0.1", log_level="DEBUG"
    )
    rooms = app.extensions["medq"]
    person = Person(app, "lab")
    hook = f"http://127.0.0.1:{free_port()}/{HOOK}"
    job_id = submitted(
        person.client, question=QUESTION, filename=NAME, metadata=f'{{"a": "{NOTE}"}}', webhook_url=hook
    )["id"]
    worker.finish(job_id)
    batch_id = accepted(person.client, zipped(pictures(1)), filename=NAME, question=QUESTION)["id"]
    Hands(rooms).work(batch_id)
    courier = Courier(rooms)
    courier.round()
    courier.close()
    Sweeper(database, rooms.storage, rooms.dispatcher, rooms.hints, rooms.settings).sweep()
    refusals = [
        post(person.client, image=b"Xylophone", question=QUESTION, filename=NAME),
        post(person.client, age=QUESTION, site=QUESTION, metadata=NOTE),
        person.client.get(f"/v1/jobs?status={QUESTION}"),
        person.client.get("/v1/jobs/nothing"),
        app.test_client().get("/v1/jobs", headers={"Authorization": f"Bearer {person.key[:-1]}x"}),
    ]
    assert [one.status_code for one in refusals] == [415, 400, 400, 404, 401]
    for one in refusals:
        assert "Xylophone" not in one.text
        assert person.key[:20] not in one.text
    written = "".join(capsys.readouterr())
    assert job_id in written  # it is these logs
    assert "Xylophone" not in written
    assert person.key[3:] not in written
