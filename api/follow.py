"""Runs work for several jobs at once with a progress bar each on stderr, and yields results in order."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from api.render import line, stage_words
from shared.schemas import Job

Item = TypeVar("Item")
Report = Callable[[Job], None]  # tells the progress bar how a job stands

AT_ONCE = 16  # the server lets waiting clients take half of its threads; this leaves room for others


def each(
    items: Sequence[Item], work: Callable[[Item, Report], Job], title: Callable[[Item], str]
) -> Iterator[tuple[Item, Job | Exception]]:
    """(item, its job or what went wrong), in the order of `items`, each as soon as it is its turn.

    Threads are daemons, so that Ctrl-C ends the program at once and not at the end of the longest wait.
    """
    waiting: queue.SimpleQueue[tuple[Item, Future[Job]]] = queue.SimpleQueue()
    futures: list[Future[Job]] = [Future() for _ in items]
    for pair in zip(items, futures, strict=True):
        waiting.put(pair)
    with _progress() as progress:
        total = progress.add_task("all", total=len(items), words="", visible=len(items) > 1)
        for _ in range(min(AT_ONCE, len(items))):
            threading.Thread(target=_run, args=(waiting, work, title, progress, total), daemon=True).start()
        for item, future in zip(items, futures, strict=True):
            error = future.exception()  # waits
            progress.stop()  # what the caller prints must not be drawn over
            yield item, error if isinstance(error, Exception) else future.result()
            if future is not futures[-1]:
                progress.start()


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[words]}", markup=False),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _run(
    waiting: "queue.SimpleQueue[tuple[Item, Future[Job]]]",
    work: Callable[[Item, Report], Job],
    title: Callable[[Item], str],
    progress: Progress,
    total: TaskID,
) -> None:
    while True:
        try:
            item, future = waiting.get_nowait()
        except queue.Empty:
            return
        bar = progress.add_task(line(title(item), 40), total=1.0, words="sending")
        try:
            future.set_result(work(item, _reporter(progress, bar)))
        except BaseException as error:  # the main thread judges
            future.set_exception(error)
        progress.remove_task(bar)
        progress.advance(total)


def _reporter(progress: Progress, bar: TaskID) -> Report:
    def report(job: Job) -> None:
        progress.update(bar, completed=job.progress, words=line(stage_words(job)))

    return report
