"""The command line: `medq`, or `python -m api.cli`. It talks HTTP only."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from api.client import Client, ClientError, ProblemError
from api.follow import Report, each
from api.render import job_view, jobs_table, pipelines_table, plain
from shared.catalog import Lang
from shared.lifecycle import TERMINAL
from shared.schemas import QUESTION_LIMIT, Explain, Job, JobStatus, Sex, clean_text
from shared.settings import client_settings

FAILED, BAD_USAGE, INTERRUPTED = 1, 2, 130  # exit codes
WIDE = 200  # columns when the output is no terminal, so that nothing is cut off

app = typer.Typer(
    name="medq",
    help="Ask MedQ about medical images. MEDQ_URL names the server, MEDQ_KEY holds the key.",
    epilog="Exit code: 0 all well, 1 a job failed or was refused, 2 bad usage or no server.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _sent_text(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        clean_text(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if len(text) > QUESTION_LIMIT:
        raise typer.BadParameter(f"{len(text):,} characters; {QUESTION_LIMIT:,} are allowed.")
    return text


Id = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the end.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per line, for machines.")]


@app.command()
def submit(
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE", exists=True, dir_okay=False, readable=True, help="Picture files."),
    ],
    pipeline: Annotated[
        str | None, typer.Option(help="What to ask of the image; see `medq pipelines`.")
    ] = None,
    question: Annotated[
        str | None, typer.Option("--question", "-q", callback=_sent_text, help="In any language.")
    ] = None,
    age: Annotated[int | None, typer.Option(min=0, max=120, help="Age in years.")] = None,
    sex: Annotated[Sex | None, typer.Option(help="Sex, if known.")] = None,
    site: Annotated[
        str | None, typer.Option(callback=_sent_text, help="Body site, such as back or face.")
    ] = None,
    lang: Annotated[
        Lang | None, typer.Option(help="Language of the answer. Default: the question's.")
    ] = None,
    explain: Annotated[Explain | None, typer.Option(help="How closely to explain the first finding.")] = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Send pictures and show what was found."""
    fields: dict[str, Any] = {
        "pipeline": pipeline, "question": question, "age": age, "sex": sex, "site": site, "lang": lang,
        "explain": explain,
    }  # fmt: skip

    with _server() as client:

        def send(image: Path, report: Report) -> Job:
            job = client.submit(image, **fields)
            report(job)
            return _followed(client, job.id, report) if wait else job

        failed = False
        with _interruptible():
            for image, result in each(images, send, lambda image: image.name):
                if not isinstance(result, Job):
                    _show_refusal(str(image), result, as_json)
                    failed = True
                    continue
                _show(client, result, as_json, brief=not wait)
                failed |= wait and result.status != "succeeded"
        raise typer.Exit(FAILED if failed else 0)


@app.command()
def get(
    id: Id, wait: Annotated[bool, typer.Option("--wait", help="Wait for the end.")] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show a job as it is now, or at its end."""
    with _server() as client:
        if wait:
            _watch(client, id, as_json)
        else:
            _finish(client, client.get(id), as_json)


@app.command()
def watch(id: Id, as_json: AsJson = False) -> None:
    """Wait for a job's end with its progress, then show it."""
    with _server() as client:
        _watch(client, id, as_json)


@app.command("list")
def list_jobs(
    status: Annotated[JobStatus | None, typer.Option(help="Only jobs with this status.")] = None,
    pipeline: Annotated[str | None, typer.Option(help="Only jobs of this pipeline.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    with _server() as client:
        found = client.list(status=status, pipeline=pipeline, page=min(limit, 200))
        shown = [job for _, job in zip(range(limit), found, strict=False)]
        if as_json:
            for job in shown:
                _print_json(job.model_dump(mode="json"))
        else:
            _out().print(jobs_table(shown) if shown else "No jobs yet: medq submit IMAGE")


@app.command()
def cancel(id: Id, as_json: AsJson = False) -> None:
    """Stop a job before its next stage."""
    with _server() as client:
        _show(client, client.cancel(id), as_json)


@app.command()
def rerun(id: Id, wait: Wait = True, as_json: AsJson = False) -> None:
    """Make a new job with the same picture and question, on the current model."""
    with _server() as client:
        job = client.rerun(id)
        if wait:
            _watch(client, job.id, as_json)
        else:
            _show(client, job, as_json, brief=True)


@app.command()
def erase(id: Id, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask back.")] = False) -> None:
    """Erase a job's picture, question, findings and answer for good."""
    if not yes:
        typer.confirm(
            f"Erase the picture, question, findings and answer of {plain(id)}?", abort=True, err=True
        )
    with _server() as client:
        client.erase(id)
        _say(f"{id} is erased; its bare row stays.")


@app.command()
def pipelines(as_json: AsJson = False) -> None:
    """List what can be asked of an image."""
    with _server() as client:
        found = client.pipelines()
        if not as_json:
            _out().print(pipelines_table(found))
            return
        for pipeline in found:
            _print_json(pipeline.model_dump(mode="json"))


def _watch(client: Client, id: str, as_json: bool) -> None:
    with _interruptible():
        for _, result in each([id], lambda id, report: _followed(client, id, report), lambda id: id):
            if not isinstance(result, Job):
                raise result
            _finish(client, result, as_json)


def _followed(client: Client, id: str, report: Report) -> Job:
    for job in client.watch(id):
        report(job)
    return job


def _finish(client: Client, job: Job, as_json: bool) -> None:
    _show(client, job, as_json)
    if job.status in TERMINAL and job.status != "succeeded":
        raise typer.Exit(FAILED)


def _show(client: Client, job: Job, as_json: bool, *, brief: bool = False) -> None:
    if as_json:
        _print_json(job.model_dump(mode="json"))
    elif brief:
        typer.echo(plain(job.id))
    else:
        _out().print(job_view(job, thresholds_of(client, job)))


def thresholds_of(client: Client, job: Job) -> Mapping[str, float] | None:
    """From the card that made the findings; None when the server has another one by now."""
    if not job.findings or not job.model:
        return None
    try:
        card = client.pipeline(job.pipeline).card
    except ClientError:
        return None
    return card.thresholds if card and card.sha256 == job.model.sha256 else None


def _show_refusal(image: str, error: Exception, as_json: bool) -> None:
    """An image that became no job, or whose job could not be watched; the others go on."""
    if not isinstance(error, (ProblemError, OSError)):
        raise error
    if not as_json:
        _say(f"{image}: {error}", "red")
    elif isinstance(error, ProblemError):
        _print_json({"image": image, "status": "refused", "error": error.problem.model_dump(mode="json")})
    else:
        _print_json(
            {"image": image, "status": "refused", "error": {"title": "Not read", "detail": str(error)}}
        )


@contextmanager
def _server() -> Iterator[Client]:
    """A client, whose errors end the command with a sentence rather than a traceback."""
    url, key = client_settings()
    try:
        with Client(url, key) as client:
            yield client
    except ProblemError as error:
        _stop(str(error), FAILED)
    except ClientError as error:
        _stop(str(error), BAD_USAGE)


@contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        _stop("Stopped waiting. The jobs go on: `medq list` shows them, `medq watch ID` waits.", INTERRUPTED)


def _stop(text: str, code: int) -> NoReturn:
    _say(text, "red")
    raise typer.Exit(code)


def _say(text: str, style: str = "") -> None:
    Console(stderr=True, soft_wrap=True).print(Text(plain(text), style=style))


def _out() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDE)


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value))  # ASCII: nothing in it can control a terminal


def main() -> None:
    app()


if __name__ == "__main__":
    main()
