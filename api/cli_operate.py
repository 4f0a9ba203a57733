"""`medq top|pause|resume|drain|requeue`: for whoever operates the system. With keys, MEDQ_KEY needs the scope admin."""

import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import typer
from rich.live import Live

from api.client import Client, ClientError
from api.console import BAD_USAGE, AsJson, interruptible, out, print_json, say, server, stop
from api.render import plain
from api.render_top import top_view
from api.top import Look, Top, top
from api.transport import Patience

LOOK_S = 1.0  # between two looks of `medq drain` at what still runs
KEPT_PAUSED = "Stopped waiting. Everything stays paused; `medq resume` lifts it."

LaneName = Annotated[Literal["all", "interactive", "bulk"], typer.Option(help="People's jobs, or archives'.")]
Which = Annotated[str, typer.Argument(metavar="PIPELINE", help="A pipeline, or all of them.")]


def show_top(
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Two looks, then end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what the system does, live: queues, workers, device, language model. Ctrl-C ends it."""
    with server() as client, suppress(KeyboardInterrupt):
        look = _look(client)
        live = None if as_json or once or not out().is_terminal else Live(console=out(), screen=False)
        if live:
            live.start()
        try:
            while True:
                time.sleep(every)
                before, look = look, _look(client)
                _show(top(before, look), client.url, as_json, live)
                if once:
                    return
        finally:
            if live:
                live.stop()


def _look(client: Client) -> Look:
    """Survives a server that restarts."""
    patience = Patience(client)
    while True:
        try:
            text = client.metrics()
            break
        except ClientError as error:
            patience.wait(error)
    try:
        return Look.of(text)
    except ValueError:
        stop(f"{plain(client.url)} does not tell what MedQ tells: is that a MedQ server?", BAD_USAGE)


def _show(seen: Top, url: str, as_json: bool, live: Live | None) -> None:
    if as_json:
        print_json(seen.as_json())
    elif live:
        live.update(top_view(seen, url), refresh=True)
    else:
        out().print(top_view(seen, url))


def pause(
    pipeline: Which = "all",
    lane: LaneName = "all",
    note: Annotated[str | None, typer.Option(help="Why, for the others.")] = None,
    as_json: AsJson = False,
) -> None:
    """Let jobs wait. What workers have begun, they finish; what is submitted is accepted, and waits too."""
    with server() as client:
        made = client.pause(pipeline, lane, note)
        if as_json:
            print_json(made.model_dump(mode="json"))
        else:
            say(f"{_named(pipeline, lane)} wait from now on; `medq resume{_words(pipeline, lane)}` lifts it.")


def resume(pipeline: Which = "all", lane: LaneName = "all") -> None:
    """Lift a pause: its jobs go on at once."""
    with server() as client:
        client.resume(pipeline, lane)
        say(f"{_named(pipeline, lane)} go on.")


def drain() -> None:
    """Pause everything, and wait until no worker holds a job. Then all may be stopped without anybody's loss."""
    with server() as client, interruptible(KEPT_PAUSED):
        client.pause(note="drain")
        say("Nothing new is begun; `medq resume` lifts it.")
        told = -1
        while running := client.pauses().running:
            if running != told:
                say(f"{running} jobs still run.")
                told = running
            time.sleep(LOOK_S)
        say("No job runs.")


def requeue(
    pipeline: Which = "all",
    lane: LaneName = "all",
    failed: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=24, help="Also run again what failed by a fault in the last so many hours."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send waiting jobs again whose message may be lost; with --failed also run again what failed by a fault.

    A picture that cannot be read fails again, and is left alone. Batches: medq rerun BATCH.
    """
    since = None if failed is None else datetime.now(UTC) - timedelta(hours=failed, seconds=-5)
    waiting, rerun = 0, 0
    with server() as client:
        for done in client.requeue(pipeline, lane, since):
            waiting, rerun = waiting + done.waiting, rerun + len(done.rerun)
            if as_json:
                print_json(done.model_dump(mode="json"))
    if not as_json:
        say(f"{waiting} waiting jobs are sent again; {rerun} failed ones run again as new jobs.")


def _named(pipeline: str, lane: str) -> str:
    whose = {"all": "All", "interactive": "People's", "bulk": "Archives'"}[lane]
    return f"{whose} jobs" + ("" if pipeline == "all" else f" of {plain(pipeline)}")


def _words(pipeline: str, lane: str) -> str:
    named = pipeline if pipeline != "all" else ""
    return plain(f" {named}".rstrip() + (f" --lane {lane}" if lane != "all" else ""))
