"""What every command needs: a client whose errors end the command with a sentence, and output that is safe."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from api.client import Client, ClientError, ProblemError
from api.render import plain
from shared.catalog import Lang
from shared.schemas import QUESTION_LIMIT, Sex, clean_text
from shared.settings import client_settings

FAILED, BAD_USAGE, INTERRUPTED = 1, 2, 130  # exit codes
WIDE = 200  # columns when the output is no terminal, so that nothing is cut off


def sent_text(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        clean_text(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if len(text) > QUESTION_LIMIT:
        raise typer.BadParameter(f"{len(text):,} characters; {QUESTION_LIMIT:,} are allowed.")
    return text


# What is asked, of one picture or of every entry of an archive
PipelineName = Annotated[str | None, typer.Option(help="What to ask of the image; see `medq pipelines`.")]
Question = Annotated[
    str | None, typer.Option("--question", "-q", callback=sent_text, help="In any language.")
]
Age = Annotated[int | None, typer.Option(min=0, max=120, help="Age in years.")]
SexName = Annotated[Sex | None, typer.Option(help="Sex, if known.")]
Site = Annotated[str | None, typer.Option(callback=sent_text, help="Body site, such as back or face.")]
LangName = Annotated[Lang | None, typer.Option(help="Language of the answer. Default: the question's.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the end.")]
External = Annotated[
    bool, typer.Option("--external/--no-external", help="Whether a language model may be asked.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per line, for machines.")]


@contextmanager
def server() -> Iterator[Client]:
    """A client, whose errors end the command with a sentence rather than a traceback."""
    url, key = client_settings()
    try:
        with Client(url, key) as client:
            yield client
    except ProblemError as error:
        stop(str(error), FAILED)
    except ClientError as error:
        stop(str(error), BAD_USAGE)


@contextmanager
def interruptible(advice: str) -> Iterator[None]:
    """Ctrl-C ends the command with a word on what goes on without it."""
    try:
        yield
    except KeyboardInterrupt:
        stop(advice, INTERRUPTED)


def stop(text: str, code: int) -> NoReturn:
    say(text, "red")
    raise typer.Exit(code)


def say(text: str, style: str = "") -> None:
    Console(stderr=True, soft_wrap=True).print(Text(plain(text), style=style))


def say_who_reads(client: Client, external: bool, as_json: bool) -> None:
    """Before anything is sent: which language model it goes to, as the page says it; machines ask /v1/about."""
    if as_json or not external:
        return
    models = [f"{model.name} at {model.host}" for model in client.about().language_models]
    if models:
        say(
            f"The question, age, sex, body site and findings go to the language model {' or '.join(models)}. "
            "The picture does not. --no-external: answer without a language model."
        )


def out() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDE)


def print_json(value: object) -> None:
    typer.echo(json.dumps(value))  # ASCII: nothing in it can control a terminal
