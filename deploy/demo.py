"""The body of `make demo`: start MedQ, ask it about a picture, print what it says, stop.

python -m deploy.demo [--image FILE] [--question TEXT] [--lang en|ko|fr]
"""

import argparse
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.text import Text

from api.cli import thresholds_of
from api.client import Client, ClientError
from api.follow import Report, each
from api.render import job_view, line
from deploy import drawn
from deploy.run import running
from shared.catalog import Lang
from shared.errors import ServiceError
from shared.schemas import Job, clean_text
from shared.settings import Settings

QUESTION = "Is this mole dangerous, and what should I do?"
DRAWN_NAME = "drawn-by-medq.jpg"
NEEDED_GB = 1.0  # database, broker and pictures of a demo need far less; a full disk breaks them oddly
INTERRUPTED, TERMINATED = 130, 143  # exit codes, as shells count them


class DemoError(Exception):
    """The demo cannot go on; the message says what to do."""


@dataclass(frozen=True)
class Place:
    """Where the system answers."""

    url: str
    flower_url: str
    stays: bool = False


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="deploy.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--image", type=Path, help="a picture; default: one that is drawn for the demo")
    parser.add_argument("--question", default=QUESTION, help=f"default: {QUESTION}")
    parser.add_argument("--lang", choices=get_args(Lang), help="language of the answer")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # so that the system is stopped too
    say = Console(stderr=True, highlight=False)
    try:
        job = demo(Settings.from_env(), options.image, options.question, options.lang, say)
    except (DemoError, ServiceError, ClientError) as error:
        sys.exit(f"The demo stopped: {error}")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(job.status != "succeeded")


def demo(settings: Settings, image: Path | None, question: str, lang: str | None, say: Console) -> Job:
    """Raises: DemoError, RunError, ClientError"""
    check(settings, image, question)
    with system(settings, say) as place, Client(place.url) as client:
        job = ask(client, image, question, lang, say)
        out = Console(highlight=False)
        out.print(job_view(job, thresholds_of(client, job)))
    then = "It goes on running:" if place.stays else "[bold]make run[/bold] starts the system to stay; then"
    say.print(
        f"The demo is over. {then}\n"
        f"  page         {place.url}/\n"
        f"  API docs     {place.url}/docs\n"
        f"  Flower       {place.flower_url}\n"
        f"  this job     .venv/bin/medq get {line(job.id)}",
        soft_wrap=True,
    )
    return job


def check(settings: Settings, image: Path | None, question: str) -> None:
    """What would fail later is said before anything starts."""
    if image and not image.is_file():
        raise DemoError(f"there is no picture {image}.")
    try:
        clean_text(question)
    except ValueError as error:
        raise DemoError(f"the question cannot be sent: {error}.") from None
    folder = next(path for path in (settings.data_path, *settings.data_path.parents) if path.exists())
    free_gb = shutil.disk_usage(folder).free / 1e9
    if free_gb < NEEDED_GB:
        raise DemoError(f"only {free_gb:.1f} GB are free in {folder}, and it needs {NEEDED_GB:.0f} GB.")


@contextmanager
def system(settings: Settings, say: Console) -> Iterator[Place]:
    """The one that already runs on the port, if it is MedQ; else one that lives as long as the demo."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{settings.port}"
    if runs_already(url):
        say.print(f"MedQ already runs at {url}; the demo uses it.", soft_wrap=True)
        yield Place(url, f"http://127.0.0.1:{settings.flower_port}", stays=True)
        return
    say.print("Starting broker, database, API, workers, sweeper and Flower ...")
    with running(settings) as started:
        say.print(f"Ready at {started.url}", soft_wrap=True)
        yield Place(started.url, started.flower_url)
        say.print("Stopping ...")


def runs_already(url: str) -> bool:
    """Whether MedQ answers there; another program on the port is for deploy.run to complain about."""
    try:
        with Client(url) as client:
            client.pipelines()
            return True
    except ClientError:
        return False


def ask(client: Client, image: Path | None, question: str, lang: str | None, say: Console) -> Job:
    if image is None:
        say.print(
            "The picture is drawn by MedQ: no photograph, no patient. IMAGE=file asks about yours.",
            soft_wrap=True,
        )
    say.print(Text(f"Question: {line(question, 300)}"), soft_wrap=True)

    def send(picture: Path | None, report: Report) -> Job:
        name = None if picture else DRAWN_NAME
        job = client.submit(picture or drawn.jpeg(), filename=name, question=question, lang=lang)
        for seen in client.watch(job.id):
            report(job := seen)
        return job

    ((_, result),) = each([image], send, lambda picture: picture.name if picture else DRAWN_NAME)
    if not isinstance(result, Job):
        raise result
    return result


if __name__ == "__main__":
    main()
