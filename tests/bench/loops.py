"""The raw loops that the vision worker is held against: decode, preprocess, forward, and nothing else."""

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from shared.catalog import PIPELINES
from shared.images import Limits, decode
from shared.preprocess import to_tensor
from shared.settings import Settings
from workers.memory import keep_memory
from workers.serving import Models, Served, TorchForward

MICROBATCH = 32


def raw_settings(models: Path) -> Settings:
    return replace(Settings(), models_dir=str(models))


def prepare(data: bytes, served: Served) -> Tensor:
    size = served.card.preprocess.size_px
    return to_tensor(decode(data, Limits(), at_least_px=size), served.card.preprocess)


def chunks(pictures: list[bytes]) -> Iterator[list[bytes]]:
    for start in range(0, len(pictures), MICROBATCH):
        yield pictures[start : start + MICROBATCH]


def serial(pictures: list[bytes], served: Served, forward: TorchForward) -> None:
    """One thread does one thing after the other; torch uses every core for the forward pass."""
    for chunk in chunks(pictures):
        forward([prepare(data, served) for data in chunk])


def pipelined(pictures: list[bytes], served: Served, forward: TorchForward, threads: int) -> None:
    """Threads decode the next microbatches while this one computes."""
    with ThreadPoolExecutor(threads) as pool:
        ahead = [[pool.submit(prepare, data, served) for data in chunk] for chunk in chunks(pictures)]
        for waiting in ahead:
            forward([future.result() for future in waiting])


def main() -> None:
    """`python -m tests.bench.loops MODELS FOLDER`: answers each line on stdin with images/s of both loops."""
    keep_memory("tests.bench.loops")
    models, folder = map(Path, sys.argv[1:])
    loaded = Models(raw_settings(models))
    served = loaded.served(PIPELINES["skin"].heads[0])
    forward = served.batcher._run
    assert isinstance(forward, TorchForward)
    pictures = [path.read_bytes() for path in sorted(folder.iterdir())]
    print("ready", flush=True)
    for line in sys.stdin:
        name = line.strip()
        began = time.perf_counter()
        if name == "serial":
            serial(pictures, served, forward)
        else:
            pipelined(pictures, served, forward, int(name))
        print(len(pictures) / (time.perf_counter() - began), flush=True)


if __name__ == "__main__":
    main()
