"""The command line: `medq`, or `python -m api.cli`. HTTP only, but for `medq key`, `audit` and `knowledge`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from api import cli_audit, cli_batches, cli_keys, cli_knowledge, cli_operate
from api.client import Client, ClientError, ProblemError
from api.console import (
    FAILED,
    Age,
    AsJson,
    External,
    LangName,
    PipelineName,
    Question,
    SexName,
    Site,
    Wait,
    interruptible,
    out,
    print_json,
    say,
    say_who_reads,
    server,
)
from api.follow import Report, each
from api.render import job_view, jobs_table, pipelines_table, plain, usage_table
from shared.lifecycle import TERMINAL
from shared.schemas import Explain, Job, JobStatus

GO_ON = "Stopped waiting. The jobs go on: `medq list` shows them, `medq watch ID` waits."

app = typer.Typer(
    name="medq",
    help="Ask MedQ about medical images. MEDQ_URL names the server, MEDQ_KEY holds the key.",
    epilog="Exit code: 0 all well, 1 a job failed or was refused, 2 bad usage or no server.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


app.command()(cli_batches.batch)
app.command()(cli_batches.batches)
app.command()(cli_batches.results)
app.command("top")(cli_operate.show_top)
for command in (cli_operate.pause, cli_operate.resume, cli_operate.drain, cli_operate.requeue):
    app.command()(command)
app.add_typer(cli_keys.app, name="key")
app.add_typer(cli_audit.app, name="audit")
app.add_typer(cli_knowledge.app, name="knowledge")

Id = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]
AnyId = Annotated[str, typer.Argument(metavar="ID", help="The id of a job or a batch.")]


@app.command()
def submit(
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE", exists=True, dir_okay=False, readable=True, help="Picture files."),
    ],
    pipeline: PipelineName = None,
    question: Question = None,
    age: Age = None,
    sex: SexName = None,
    site: Site = None,
    lang: LangName = None,
    explain: Annotated[Explain | None, typer.Option(help="How closely to explain the first finding.")] = None,
    frame: Annotated[int | None, typer.Option(help="Frame of a multi-frame DICOM file, from 1.")] = None,
    external: External = True,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Send pictures and show what was found."""
    fields: dict[str, Any] = {
        "pipeline": pipeline, "question": question, "age": age, "sex": sex, "site": site, "lang": lang,
        "explain": explain, "frame": frame, "external": None if external else False,
    }  # fmt: skip

    with server() as client:
        say_who_reads(client, external, as_json)

        def send(image: Path, report: Report) -> Job:
            job = client.submit(image, **fields)
            report(job)
            return _followed(client, job.id, report) if wait else job

        failed = False
        with interruptible(GO_ON):
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
    with server() as client:
        if wait:
            _watch(client, id, as_json)
        else:
            _finish(client, client.get(id), as_json)


@app.command()
def watch(id: AnyId, as_json: AsJson = False) -> None:
    """Wait for the end of a job or a batch with its progress, then show it."""
    with server() as client:
        if cli_batches.is_batch(client, id):
            cli_batches.watch(client, id, as_json)
        else:
            _watch(client, id, as_json)


@app.command("list")
def list_jobs(
    status: Annotated[JobStatus | None, typer.Option(help="Only jobs with this status.")] = None,
    pipeline: Annotated[str | None, typer.Option(help="Only jobs of this pipeline.")] = None,
    unreviewed: Annotated[
        bool, typer.Option("--unreviewed", help="Only what nobody has reviewed yet.")
    ] = False,
    oldest: Annotated[bool, typer.Option("--oldest", help="The oldest first.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    with server() as client:
        reviewed = False if unreviewed else None
        found = client.list(
            status=status,
            pipeline=pipeline,
            reviewed=reviewed,
            order="oldest" if oldest else "newest",
            page=min(limit, 200),
        )
        shown = [job for _, job in zip(range(limit), found, strict=False)]
        if as_json:
            for job in shown:
                print_json(job.model_dump(mode="json"))
        else:
            out().print(jobs_table(shown) if shown else "No jobs yet: medq submit IMAGE")


@app.command()
def cancel(id: AnyId, as_json: AsJson = False) -> None:
    """Stop a job before its next stage, or a batch."""
    with server() as client:
        if cli_batches.is_batch(client, id):
            cli_batches.show(client.cancel_batch(id), as_json)
        else:
            _show(client, client.cancel(id), as_json)


@app.command()
def rerun(
    id: AnyId,
    wait: Wait = True,
    every: Annotated[
        bool, typer.Option("--all", help="Of a batch: everything, not only what failed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Ask the same again of the current model: a job, or what failed of a batch."""
    with server() as client:
        if cli_batches.is_batch(client, id):
            batch = client.rerun_batch(id, "all" if every else "failed")
            cli_batches.follow(client, batch, wait, as_json)
            return
        job = client.rerun(id)
        if wait:
            _watch(client, job.id, as_json)
        else:
            _show(client, job, as_json, brief=True)


@app.command()
def ask(
    id: Id,
    text: Annotated[str, typer.Argument(help="The question.")],
    lang: LangName = None,
    external: External = True,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Ask again about a job that has succeeded."""
    with server() as client:
        say_who_reads(client, external, as_json)
        message = client.ask(id, text, lang=lang, external=external)
        if wait:
            _watch(client, message.id, as_json)
        else:
            _show(client, message, as_json, brief=True)


@app.command()
def messages(id: Id, as_json: AsJson = False) -> None:
    """Show what was asked again about a job, the oldest first."""
    with server() as client:
        found = client.messages(id)
        for message in found:
            _show(client, message, as_json)
        if not found and not as_json:
            say("Nothing was asked again: medq ask ID TEXT")


@app.command()
def erase(id: Id, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask back.")] = False) -> None:
    """Erase a job's picture, question, findings and answer for good."""
    if not yes:
        typer.confirm(
            f"Erase the picture, question, findings and answer of {plain(id)}?", abort=True, err=True
        )
    with server() as client:
        client.erase(id)
        say(f"{id} is erased; its bare row stays.")


@app.command()
def pipelines(as_json: AsJson = False) -> None:
    """List what can be asked of an image."""
    with server() as client:
        found = client.pipelines()
        if not as_json:
            out().print(pipelines_table(found))
            return
        for pipeline in found:
            print_json(pipeline.model_dump(mode="json"))


@app.command()
def usage(
    month: Annotated[str | None, typer.Option(help="Such as 2026-11; by default this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what language models took for your jobs in a month."""
    with server() as client:
        found = client.usage(month)
        if as_json:
            print_json(found.model_dump(mode="json"))
        else:
            out().print(usage_table(found))


def _watch(client: Client, id: str, as_json: bool) -> None:
    with interruptible(GO_ON):
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
        print_json(job.model_dump(mode="json"))
    elif brief:
        typer.echo(plain(job.id))
    else:
        out().print(job_view(job, thresholds_of(client, job)))


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
        say(f"{image}: {error}", "red")
    elif isinstance(error, ProblemError):
        print_json({"image": image, "status": "refused", "error": error.problem.model_dump(mode="json")})
    else:
        print_json(
            {"image": image, "status": "refused", "error": {"title": "Not read", "detail": str(error)}}
        )


def main() -> None:
    app()


if __name__ == "__main__":
    main()
