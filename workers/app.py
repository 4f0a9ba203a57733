"""Starts a worker process: `python -m workers.app vision|answer|archive|sweeper`.

Weights load and warm up here, before Celery starts: Celery swallows what its signal handlers raise,
and a worker that serves without its model is worse than one that does not start.

What only one role needs is imported in that role: the sweeper starts without OpenAI's types, which take longer to
import than all the rest, and no role but `vision` loads torch.
"""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

import structlog
from celery.signals import worker_shutting_down

from shared import logs, messages
from shared.catalog import PIPELINES
from shared.database import Database, connect
from shared.errors import ServiceError, SettingsError
from shared.figures import ROLES, Figures
from shared.queue import LANES, Dispatcher, Hints, make_celery, queue_name
from shared.settings import Settings
from shared.storage import Storage, storage_of
from shared.totals import Teller
from shared.traces import Traces
from workers.artifacts import forget
from workers.attempt import Attempts, Stage, no_late
from workers.beside import Beside
from workers.consume import consume
from workers.memory import keep_memory
from workers.refill import Refiller
from workers.sweeper import Sweeper

if TYPE_CHECKING:
    from workers.explain import ExplainStage

# sysexits.h: what is configured cannot work, and starting again would not help; supervisord.conf knows it.
EXIT_CONFIG = 78

log = structlog.get_logger(__name__)


def main() -> None:
    parser = argparse.ArgumentParser(prog="workers.app", description="Start one MedQ worker process.")
    parser.add_argument("role", choices=ROLES)
    role = parser.parse_args().role
    if role == "vision":
        keep_memory("workers.app")
    try:
        settings = Settings.from_env()
        logs.configure(settings.log_level, settings.log_format, role)
        {"vision": vision, "answer": answer, "archive": archive, "sweeper": sweep}[role](settings)
    except ServiceError as error:
        print(f"{role}: {error.title}: {error.detail}", file=sys.stderr)
        sys.exit(EXIT_CONFIG)


def vision(settings: Settings) -> None:
    """One process per device."""
    import torch

    from workers.explain import ExplainStage
    from workers.serving import Models
    from workers.vision import VisionStage

    if settings.torch_threads:
        torch.set_num_threads(settings.torch_threads)
    figures = Figures()
    models = Models(settings, figures)
    if not models.pipelines:
        raise SettingsError(
            f"no weights in {settings.models_path}; train some: make train PIPELINE=skin DATA=…"
        )
    models.watch()
    queues = [queue_name("vision", name, lane) for lane in LANES for name in models.pipelines]
    explained = [name for name in models.pipelines if PIPELINES[name].classifier]
    queues += [queue_name("explain", name, lane) for lane in LANES for name in explained]
    storage = storage_of(settings)
    stage = VisionStage(models, storage, settings, figures)
    explain = ExplainStage(models, storage, settings)
    serve(stage, queues, settings.vision_threads, settings, figures, explain, storage)
    models.close()


def answer(settings: Settings) -> None:
    """Threads that each hold one answer."""
    from workers.answer import AnswerStage
    from workers.encoder import find_encoder
    from workers.meter import Meter
    from workers.providers import make_providers
    from workers.red_flags import load
    from workers.shelf import Shelf

    load()  # red flags: broken rules stop the start, not the first job
    figures = Figures()
    model = make_providers(settings, figures)
    encoder = find_encoder(settings.embeddings == "on")
    db = connect(settings.sqlalchemy_url)
    stage = AnswerStage(
        model,
        settings.max_attempts,
        Hints(settings),
        settings.answer_wait_s,
        shelf=Shelf(db, encoder),
        before=partial(messages.before, db),
        meter=Meter(db, settings.owner_tokens_a_month),
        encoder=encoder,
    )
    queues = [queue_name("answer", "all", lane) for lane in LANES]
    serve(stage, queues, settings.answer_threads, settings, figures)
    db.close()


def archive(settings: Settings) -> None:
    """Threads that each read one archive; at SIGTERM each stops at its next checkpoint."""
    from workers.archive import Archives

    db, dispatcher, hints = (
        connect(settings.sqlalchemy_url, pool_size=8),
        Dispatcher(settings),
        Hints(settings),
    )
    refiller = Refiller(db, dispatcher, hints, settings)
    archives = Archives(db, storage_of(settings), hints, refiller, settings)
    queues = [queue_name("archive", "all", "bulk")]
    celery = make_celery(settings, queues)
    celery.task(name="medq.archive")(archives.message)

    def shutting_down(**_: object) -> None:
        archives.stop()
        # One entry may be as long as the archive: its lease runs out, and another worker goes on.
        timer = threading.Timer(settings.drain_s, os._exit, [0])
        timer.daemon = True
        timer.start()

    worker_shutting_down.connect(shutting_down, weak=False)
    teller = Teller(settings, Figures(), "archive")
    teller.start()
    log.info("ready", stage="archive", queues=queues, threads=settings.archive_threads)
    consume(celery, "archive", settings.archive_threads)
    teller.close()
    refiller.close()
    db.close()


def sweep(settings: Settings) -> None:
    stop = threading.Event()

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, ask_to_stop)
    db = connect(settings.sqlalchemy_url)
    storage = storage_of(settings)
    figures = Figures()
    teller = Teller(settings, figures, "sweeper")
    teller.start()
    Sweeper(db, storage, Dispatcher(settings), Hints(settings), settings, figures).run(stop)
    teller.close()


def serve(
    stage: Stage,
    queues: list[str],
    threads: int,
    settings: Settings,
    figures: Figures,
    explain: "ExplainStage | None" = None,
    storage: Storage | None = None,
) -> None:
    """Consume the stage's queues until SIGTERM; explanations, which take long, have threads of their own."""
    db = connect(settings.sqlalchemy_url, pool_size=8)
    dispatcher, hints = Dispatcher(settings), Hints(settings)
    refiller = Refiller(db, dispatcher, hints, settings)
    traces = Traces.open(settings, stage.name)
    late: Callable[[list[str]], object] = partial(forget, db, storage) if storage else no_late
    make = partial(Attempts, figures=figures, traces=traces, late=late)
    attempts = make(stage, db, dispatcher, hints, settings, refiller)
    celery = make_celery(settings, queues)
    celery.task(name=f"medq.{stage.name}")(attempts.message)
    running, beside = [attempts], None
    if explain:
        running.append(make(explain, db, dispatcher, hints, settings, refiller, spare=explain.spare))
        beside = Beside(running[-1].message, settings.explain_threads, explain.name)
        celery.task(name=f"medq.{explain.name}")(beside.message)
    teller = Teller(settings, figures, stage.name)
    teller.start()

    def tell_the_rest() -> None:
        teller.close()
        if traces:
            traces.close()

    stop_in_time(running, db, tell_the_rest)
    log.info("ready", stage=stage.name, queues=queues, threads=threads)
    consume(celery, stage.name, threads)
    if beside:
        beside.close()
    for one in running:
        one.close()
    tell_the_rest()
    refiller.close()
    db.close()


def stop_in_time(running: Sequence[Attempts], db: Database, tell_the_rest: Callable[[], None]) -> None:
    """On SIGTERM Celery waits for its threads without bound: `drain_s` later, what is left is given back.

    Claims that were released are dispatched again by the sweeper, so the process may simply end.
    """

    def give_back() -> None:
        # Each waits for its own, so together they take no longer than one.
        with ThreadPoolExecutor(len(running)) as pool:
            left = list(pool.map(Attempts.drain, running))
        if any(left):
            tell_the_rest()
            db.close()
            os._exit(0)

    def shutting_down(**_: object) -> None:
        threading.Thread(target=give_back, name="drain", daemon=True).start()

    worker_shutting_down.connect(shutting_down, weak=False)


if __name__ == "__main__":
    main()
