"""The raw loops that the vision worker is held against: decode, preprocess, forward, and nothing else.

Each with torch, the reference, and with the runtime that the worker chose on this machine.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from shared.catalog import PIPELINES
from shared.images import Limits, decode
from shared.networks import load_network
from shared.preprocess import to_tensor
from shared.settings import Settings
from workers.memory import keep_memory
from workers.runtime import torch_runtime
from workers.serving import Forward, Models, Served, pick_dtype

MICROBATCH = 32

Run = Callable[[list[Tensor]], Sequence[Any]]


def raw_settings(models: Path) -> Settings:
    return replace(Settings(), models_dir=str(models))


def prepare(data: bytes, served: Served) -> Tensor:
    size = served.card.preprocess.size_px
    return to_tensor(decode(data, Limits(), at_least_px=size), served.card.preprocess)


def chunks(pictures: list[bytes]) -> Iterator[list[bytes]]:
    for start in range(0, len(pictures), MICROBATCH):
        yield pictures[start : start + MICROBATCH]


def serial(pictures: list[bytes], served: Served, forward: Run) -> None:
    """One thread does one thing after the other; torch uses every core for the forward pass."""
    for chunk in chunks(pictures):
        forward([prepare(data, served) for data in chunk])


def pipelined(pictures: list[bytes], served: Served, forward: Run, threads: int) -> None:
    """Threads decode the next microbatches while this one computes."""
    with ThreadPoolExecutor(threads) as pool:
        ahead = [[pool.submit(prepare, data, served) for data in chunk] for chunk in chunks(pictures)]
        for waiting in ahead:
            forward([future.result() for future in waiting])


def forwards(settings: Settings) -> tuple[Served, dict[str, Run]]:
    """The skin classifier, on torch and as the worker serves it."""
    models = Models(settings)
    served = models.served(PIPELINES["skin"].heads[0])
    card = served.card
    network = load_network(card, served.head, settings.models_path / served.head.weights)
    dtype = pick_dtype(settings, models.device, card)
    return served, {
        "torch": Forward(torch_runtime(network, card, models.device, dtype), card),
        "served": served.batcher._run,
    }


def main() -> None:
    """`python -m tests.bench.loops MODELS FOLDER`: answers each line on stdin, such as "torch serial" or "served 2"
    (threads that decode), with images/s."""
    keep_memory("tests.bench.loops")
    models, folder = map(Path, sys.argv[1:])
    served, runtimes = forwards(raw_settings(models))
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
