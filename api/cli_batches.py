"""The commands for batches: send an archive with two progress bars, list batches, fetch results."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from api.client import Client, ProblemError
from api.client_batches import kind_of
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
    stop,
)
from api.memory import Memory
from api.render import line, plain
from api.render_batch import batch_view, batches_table, counts_words, duration
from api.sources import FolderSource, Source, source_of
from shared.batch_schemas import Batch
from shared.schemas import AnswerWhen

SHOWN_REJECTED = 10
GO_ON = "Stopped waiting. The batch goes on: `medq batches` shows it, `medq watch ID` waits."
RESUME = "Stopped. The same command goes on where the upload stopped."

BatchId = Annotated[str, typer.Argument(metavar="BATCH", help="The batch's id.")]


def batch(
    archive: Annotated[
        Path,
        typer.Argument(
            metavar="ARCHIVE|FOLDER",
            exists=True,
            readable=True,
            help="zip, tar, tar.gz, tar.zst, or a folder.",
        ),
    ],
    manifest: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            readable=True,
            help="manifest.csv or .jsonl, instead of the archive's own.",
        ),
    ] = None,
    pipeline: PipelineName = None,
    question: Question = None,
    age: Age = None,
    sex: SexName = None,
    site: Site = None,
    lang: LangName = None,
    answer: Annotated[
        AnswerWhen | None, typer.Option(help="Answer in words: always, never, or where there is a question.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", dir_okay=False, help="Also fetch the results: .csv, .jsonl, .zip."),
    ] = None,
    external: External = True,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Send an archive, or a folder as one, and wait for every picture of it."""
    fields: dict[str, Any] = {
        "pipeline": pipeline, "question": question, "age": age, "sex": sex, "site": site, "lang": lang,
        "answer": answer, "external": None if external else False,
    }  # fmt: skip
    with server() as client, _readable():
        say_who_reads(client, external, as_json)
        if output:
            _check_output(output)
        source = _source(archive)
        with interruptible(RESUME), _transfer("sending", source.size) as progress:
            made = client.batch(
                source, manifest=manifest, memory=_memory(),
                report=lambda size: progress.update(progress.task_ids[0], completed=size), **fields,
            )  # fmt: skip
        follow(client, made, wait or output is not None, as_json, output)


def batches(
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20, as_json: AsJson = False
) -> None:
    """List batches, the newest first."""
    with server() as client:
        found = list(islice(client.batches(page=min(limit, 200)), limit))
        if as_json:
            for batch in found:
                print_json(batch.model_dump(mode="json"))
        else:
            out().print(batches_table(found) if found else "No batches yet: medq batch ARCHIVE")


def results(
    batch: BatchId,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", dir_okay=False, help="A file; .csv, .jsonl or .zip says what it holds."
        ),
    ],
    against: Annotated[
        str | None,
        typer.Option(metavar="BATCH", help="Put the findings of another batch beside, and the difference."),
    ] = None,
    bom: Annotated[bool, typer.Option("--bom", help="Begin with a byte order mark, for Excel.")] = False,
    images: Annotated[bool, typer.Option("--images", help="Put the pictures into the zip.")] = False,
) -> None:
    """Fetch the results of a batch so far into a file."""
    with server() as client, _readable(), interruptible("Stopped."):
        _check_output(output)
        _fetch(client, batch, output, against=against, bom=bom, images=images)
        now = client.get_batch(batch)
        if now.completed_at is None:
            say(
                f"The batch is not finished, and neither are these results: {counts_words(now.counts)}.",
                "yellow",
            )


def is_batch(client: Client, id: str) -> bool:
    """Whether an id is a batch's; of one that is neither, the job's error speaks."""
    try:
        client.get(id)
    except ProblemError as error:
        if error.problem.status != 404:
            raise
        try:
            client.get_batch(id)
        except ProblemError:
            return False
        return True
    return False


def follow(client: Client, made: Batch, wait: bool, as_json: bool, output: Path | None = None) -> None:
    """Wait for a batch that was just made, or say its id."""
    if wait:
        watch(client, made.id, as_json, output)
    elif as_json:
        print_json(made.model_dump(mode="json"))
    else:
        typer.echo(plain(made.id))


def watch(client: Client, id: str, as_json: bool, output: Path | None = None) -> None:
    """Wait with a bar, show how it ended, and exit with 1 unless every entry succeeded."""
    with interruptible(GO_ON):
        found = _watched(client, id)
        if output:
            _fetch(client, id, output)
    show(found, as_json, client)
    if not output and not as_json:
        say(f"medq results {found.id} -o results.csv", "dim")
    if found.counts.succeeded < found.counts.total or found.status != "completed":
        raise typer.Exit(FAILED)


def show(batch: Batch, as_json: bool, client: Client | None = None) -> None:
    if as_json:
        print_json(batch.model_dump(mode="json"))
        return
    rejected = (
        list(islice(client.rejected(batch.id), SHOWN_REJECTED)) if client and batch.counts.rejected else []
    )
    metrics = client.batch_metrics(batch.id) if client else None
    out().print(batch_view(batch, rejected, metrics))


def _watched(client: Client, id: str) -> Batch:
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %"), TextColumn("{task.fields[words]}", markup=False),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("waiting", total=1.0, words="")
        for found in client.watch_batch(id):
            eta = f", {duration(found.eta_s)} left" if found.eta_s is not None else ""
            words = f"{counts_words(found.counts)}{eta}"
            progress.update(bar, completed=found.progress, description=found.status, words=line(words, 120))
    return found


def _fetch(client: Client, id: str, output: Path, **options: Any) -> None:
    with _transfer("fetching", None) as progress:
        client.results(
            id, output, report=lambda size: progress.update(progress.task_ids[0], completed=size), **options
        )
    say(f"{output}: {output.stat().st_size:,} bytes")


@contextmanager
def _transfer(words: str, size: int | None) -> Iterator[Progress]:
    """A bar that counts bytes."""
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(bar_width=24),
        DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        progress.add_task(words, total=size)
        yield progress


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        stop(f"{error}", FAILED)


def _source(archive: Path) -> Source:
    source = source_of(archive)
    if isinstance(source, FolderSource) and not len(source):
        raise typer.BadParameter(f"There are no files in {archive}.")
    return source


def _check_output(output: Path) -> None:
    """Before anything is sent: nobody waits for hours to hear of a wrong suffix."""
    kind_of(output)
    if not output.resolve().parent.is_dir():
        raise typer.BadParameter(f"There is no folder {output.resolve().parent}.")


def _memory() -> Memory:
    return Memory(Path(typer.get_app_dir("medq")) / "uploads.json")
