"""Starts a worker process: `python -m workers.app vision|answer|sweeper`.

Weights load and warm up here, before Celery starts: Celery swallows what its signal handlers raise,
and a worker that serves without its model is worse than one that does not start.
"""

import argparse
import os
import signal
import sys
import threading
from types import FrameType

import structlog
from celery import Celery
from celery.signals import worker_shutting_down

from shared import logs
from shared.database import Database, connect
from shared.errors import ServiceError, SettingsError
from shared.queue import LANES, Dispatcher, Hints, make_celery, queue_name
from shared.settings import Settings
from shared.storage import open_storage
from workers.answer import AnswerStage, make_language_model
from workers.attempt import Attempts, Stage
from workers.sweeper import Sweeper

# sysexits.h: what is configured cannot work, and starting again would not help; supervisord.conf knows it.
EXIT_CONFIG = 78

log = structlog.get_logger(__name__)


def main() -> None:
    parser = argparse.ArgumentParser(prog="workers.app", description="Start one MedQ worker process.")
    parser.add_argument("role", choices=("vision", "answer", "sweeper"))
    role = parser.parse_args().role
    try:
        settings = Settings.from_env()
        logs.configure(settings.log_level, settings.log_format, role)
        {"vision": vision, "answer": answer, "sweeper": sweep}[role](settings)
    except ServiceError as error:
        print(f"{role}: {error.title}: {error.detail}", file=sys.stderr)
        sys.exit(EXIT_CONFIG)


def vision(settings: Settings) -> None:
    """One process per device."""
    # Here, since the other roles need no torch: without it they start in a second, in a tenth of the memory.
    import torch

    from workers.serving import Models
    from workers.vision import VisionStage

    if settings.torch_threads:
        torch.set_num_threads(settings.torch_threads)
    models = Models(settings)
    if not models.pipelines:
        raise SettingsError(
            f"no weights in {settings.models_path}; train some: make train PIPELINE=skin DATA=…"
        )
    models.watch()
    queues = [queue_name("vision", name, lane) for lane in LANES for name in models.pipelines]
    stage = VisionStage(models, open_storage(settings.storage_location), settings)
    serve(stage, queues, settings.vision_threads, settings)
    models.close()


def answer(settings: Settings) -> None:
    """Threads that each hold one answer."""
    stage = AnswerStage(make_language_model(settings), settings.max_attempts)
    serve(stage, [queue_name("answer", "all", lane) for lane in LANES], settings.answer_threads, settings)


def sweep(settings: Settings) -> None:
    stop = threading.Event()

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, ask_to_stop)
    db = connect(settings.sqlalchemy_url)
    Sweeper(db, Dispatcher(settings), Hints(settings), settings).run(stop)


def serve(stage: Stage, queues: list[str], threads: int, settings: Settings) -> None:
    """Consume the stage's queues until SIGTERM."""
    db = connect(settings.sqlalchemy_url, pool_size=8)
    attempts = Attempts(stage, db, Dispatcher(settings), Hints(settings), settings)
    celery = make_celery(settings, queues)
    celery.task(name=f"medq.{stage.name}")(attempts.message)
    stop_in_time(attempts, db)
    log.info("ready", stage=stage.name, queues=queues, threads=threads)
    consume(celery, stage.name, threads)
    attempts.close()
    db.close()


def consume(celery: Celery, name: str, threads: int) -> None:
    celery.worker_main(
        [
            "--quiet",
            "worker",
            "--pool=threads",
            f"--concurrency={threads}",
            f"--hostname={name}@%h",
            "--without-gossip",
            "--without-mingle",
            "--task-events",
            "--loglevel=WARNING",
        ]
    )


def stop_in_time(attempts: Attempts, db: Database) -> None:
    """On SIGTERM Celery waits for its threads without bound: `drain_s` later, what is left is given back.

    Claims that were released are dispatched again by the sweeper, so the process may simply end.
    """

    def give_back() -> None:
        if attempts.drain():
            db.close()
            os._exit(0)

    def shutting_down(**_: object) -> None:
        threading.Thread(target=give_back, name="drain", daemon=True).start()

    worker_shutting_down.connect(shutting_down, weak=False)


if __name__ == "__main__":
    main()
