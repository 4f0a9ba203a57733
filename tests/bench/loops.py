"""The raw loops that the vision worker is held against: decode, preprocess, forward, and nothing else.

Of a segment head also what its results are made of: mask, areas, overlay. Each with torch, the reference, and with the runtime that the worker chose on this machine.
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from shared.catalog import PIPELINES
from shared.images import Limits, decode
from shared.masks import enlarged, mask_png, overlay_jpeg, segments
from shared.networks import load_network
from shared.preprocess import to_tensor
from shared.settings import Settings
from workers.memory import keep_memory
from workers.runtime import torch_runtime
from workers.segment import smallest_areas
from workers.serving import Forward, Models, Served, pick_dtype

MICROBATCH = 32
AHEAD = 4  # microbatches that are decoded before their turn, and as many that may wait to be finished

Ready = tuple[NDArray[np.uint8], Tensor]

Run = Callable[[list[Tensor]], Sequence[Any]]


def raw_settings(models: Path) -> Settings:
    return replace(Settings(), models_dir=str(models))


def prepare(data: bytes, served: Served) -> Ready:
    """A mask has the picture's own size, so then nothing is decoded smaller."""
    size = None if served.head.kind == "segment" else served.card.preprocess.size_px
    pixels = decode(data, Limits(), at_least_px=size)
    return pixels, to_tensor(pixels, served.card.preprocess)


def finish(pixels: NDArray[np.uint8], found: Any, served: Served) -> None:
    if served.head.kind == "segment":
        outlines = enlarged(found, (pixels.shape[1], pixels.shape[0]), smallest_areas(served.card))
        segments(outlines, served.head, "en")
        mask_png(outlines.mask, served.head)
        overlay_jpeg(pixels, outlines.mask, served.head)


def chunks(pictures: list[bytes]) -> Iterator[list[bytes]]:
    for start in range(0, len(pictures), MICROBATCH):
        yield pictures[start : start + MICROBATCH]


def serial(pictures: list[bytes], served: Served, forward: Run) -> None:
    """One thread does one thing after the other; torch uses every core for the forward pass."""
    for chunk in chunks(pictures):
        ready = [prepare(data, served) for data in chunk]
        for (pixels, _), found in zip(ready, forward([tensor for _, tensor in ready]), strict=True):
            finish(pixels, found, served)


def pipelined(pictures: list[bytes], served: Served, forward: Run, threads: int) -> None:
    """Threads decode the next microbatches, and finish the last ones, while this one computes."""
    with ThreadPoolExecutor(threads) as pool:
        coming = ([pool.submit(prepare, data, served) for data in chunk] for chunk in chunks(pictures))
        ahead, ending = deque(islice(coming, AHEAD)), deque[Future[None]]()
        while ahead:
            ready = [future.result() for future in ahead.popleft()]
            ahead.extend(islice(coming, 1))
            rows = forward([tensor for _, tensor in ready])
            ending.extend(
                pool.submit(finish, pixels, found, served)
                for (pixels, _), found in zip(ready, rows, strict=True)
            )
            while len(ending) > AHEAD * MICROBATCH:
                ending.popleft().result()
        for one in ending:
            one.result()


def forwards(settings: Settings, pipeline: str) -> tuple[Served, dict[str, Run]]:
    """The pipeline's first head, on torch and as the worker serves it."""
    models = Models(settings)
    served = models.served(PIPELINES[pipeline].heads[0])
    card = served.card
    network = load_network(card, served.head, settings.models_path / served.head.weights)
    dtype = pick_dtype(settings, models.device, card)
    return served, {
        "torch": Forward(torch_runtime(network, card, models.device, dtype), card),
        "served": served.batcher._run,
    }


def main() -> None:
    """`python -m tests.bench.loops MODELS FOLDER PIPELINE`: answers each line on stdin, such as "torch serial" or
    "served 2" (threads that decode), with images/s."""
    keep_memory("tests.bench.loops")
    models, folder = map(Path, sys.argv[1:3])
    served, runtimes = forwards(raw_settings(models), sys.argv[3])
    pictures = [path.read_bytes() for path in sorted(folder.iterdir())]
    print("ready", flush=True)
    for line in sys.stdin:
        runtime, how = line.split()
        began = time.perf_counter()
        if how == "serial":
            serial(pictures, served, runtimes[runtime])
        else:
            pipelined(pictures, served, runtimes[runtime], int(how))
        print(len(pictures) / (time.perf_counter() - began), flush=True)


if __name__ == "__main__":
    main()
