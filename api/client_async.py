"""The client for asyncio: the same calls with `await`, run on threads of its own, so that there is one client and not two.

A call that is canceled is given up at once; its request ends by itself, a waiting one within a minute.
"""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

from api.client import Client

AT_ONCE = 64  # calls; further ones wait for their turn

P = ParamSpec("P")
R = TypeVar("R")
END = object()


def _awaited(
    call: Callable[Concatenate[Client, P], R],
) -> Callable[Concatenate["AsyncClient", P], Awaitable[R]]:
    """A method of Client's as one that is awaited; parameters and types are its own."""

    async def method(self: "AsyncClient", /, *arguments: P.args, **named: P.kwargs) -> R:
        return await self._run(functools.partial(call, self.client, *arguments, **named))

    functools.update_wrapper(method, call)
    return method


def _iterated(
    call: Callable[Concatenate[Client, P], Iterator[R]],
) -> Callable[Concatenate["AsyncClient", P], AsyncIterator[R]]:
    """A method of Client's that yields, for `async for`."""

    async def method(self: "AsyncClient", /, *arguments: P.args, **named: P.kwargs) -> AsyncIterator[R]:
        items = call(self.client, *arguments, **named)
        while (item := await self._run(lambda: next(items, END))) is not END:
            yield item  # type: ignore[misc]

    functools.update_wrapper(method, call)
    return method


class AsyncClient:
    """Talks to one server. Close it, or use it in an `async with`; `client` is the one that does the work."""

    def __init__(self, url: str, key: str = "") -> None:
        self.client = Client(url, key)
        self._threads = ThreadPoolExecutor(AT_ONCE, "medq")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Calls that still run fail, and nobody waits for them."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.client.close()

    async def _run(self, call: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    submit = _awaited(Client.submit)
    get = _awaited(Client.get)
    watch = _iterated(Client.watch)
    wait = _awaited(Client.wait)
    list = _iterated(Client.list)
    cancel = _awaited(Client.cancel)
    rerun = _awaited(Client.rerun)
    erase = _awaited(Client.erase)
    ask = _awaited(Client.ask)
    messages = _awaited(Client.messages)
    review = _awaited(Client.review)
    reviews = _awaited(Client.reviews)
    agreement = _awaited(Client.agreement)
    usage = _awaited(Client.usage)
    report = _awaited(Client.report)
    artifact = _awaited(Client.artifact)
    about = _awaited(Client.about)
    pipelines = _awaited(Client.pipelines)
    pipeline = _awaited(Client.pipeline)

    batch = _awaited(Client.batch)  # type: ignore[arg-type]  # its **fields could hold a `self`
    upload = _awaited(Client.upload)
    batch_of = _awaited(Client.batch_of)  # type: ignore[arg-type]
    get_batch = _awaited(Client.get_batch)
    watch_batch = _iterated(Client.watch_batch)
    wait_batch = _awaited(Client.wait_batch)
    batches = _iterated(Client.batches)
    cancel_batch = _awaited(Client.cancel_batch)
    rerun_batch = _awaited(Client.rerun_batch)
    batch_metrics = _awaited(Client.batch_metrics)
    rejected = _iterated(Client.rejected)
    results = _awaited(Client.results)

    metrics = _awaited(Client.metrics)
    pauses = _awaited(Client.pauses)
    pause = _awaited(Client.pause)
    resume = _awaited(Client.resume)
    requeue = _iterated(Client.requeue)
