"""Explanations: LIME's time over bare forward passes, and whether what it names matters more than chance.

python -m tests.bench.explain [--images 200 --level low]
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from deploy.drawn import draw
from shared.catalog import PIPELINES
from shared.images import Limits, decode
from shared.networks import Classifier, load_network
from shared.preprocess import to_tensor
from shared.settings import ROOT, Settings
from training.importers import read_data
from training.samples import SPLITS, Archives
from workers.activation import activation_map, averaged
from workers.lime import SAMPLES, lime_weights, superpixels, through
from workers.microbatch import RANKS
from workers.serving import Models, Served

ROUNDS = 3
MICROBATCHES = (8, 16, 32, 64)
STEPS = 10  # of a deletion curve
RANDOM_ORDERS = 3
SKIN = ROOT.parent / "shared/data/skin"

Pixels = NDArray[np.uint8]
Predict = Callable[[Iterable[Pixels]], list[list[float]]]


def bare_s(served: Served, picture: Pixels, count: int, microbatch: int) -> float:
    """Seconds for as many forward passes in microbatches of this size, with nothing to make before."""
    tensor, batcher = to_tensor(picture, served.card.preprocess), served.batcher
    largest, batcher.largest = batcher.largest, microbatch
    began = time.perf_counter()
    waiting = [batcher.submit(tensor, RANKS["explain"]) for _ in range(count)]
    for future in waiting:
        future.result()
    took_s = time.perf_counter() - began
    batcher.largest = largest
    return took_s


def bench_speed(console: Console, served: Served) -> None:
    """Wall-clock seconds, of which each other's noise is told apart by the least of each; and seconds of CPU."""
    picture = as_seen(draw(), served)  # 46 superpixels; noise has one
    predict, count = predictor(served), SAMPLES["high"]
    tried = {size: bare_s(served, picture, 192, size) / 192 for size in MICROBATCHES}
    best = min(tried, key=tried.__getitem__)
    console.print("  ms a pass by microbatch: " + ", ".join(f"{n}: {1e3 * s:.2f}" for n, s in tried.items()))
    bare, lime = [], []
    for _ in range(ROUNDS):
        bare.append(timed(lambda: bare_s(served, picture, count, best)))
        lime.append(timed(lambda: lime_weights(picture, 0, count, 1, predict)))
        console.print(
            f"  1,000 bare passes {bare[-1][0]:.2f} s (CPU {bare[-1][1]:.2f})   "
            f"LIME {lime[-1][0]:.2f} s (CPU {lime[-1][1]:.2f})   ratio {lime[-1][0] / bare[-1][0]:.3f}"
        )
    ratio = statistics.median(own[0] / other[0] for own, other in zip(lime, bare, strict=True))
    least, cpu = (min(one[n] for one in lime) / min(one[n] for one in bare) for n in (0, 1))
    console.print(
        f"  ratio: median {ratio:.3f}, of the least times {least:.3f}, of the least CPU times {cpu:.3f}"
    )


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds on the clock, and of this process on all cores."""
    began, busy = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - busy


def as_seen(pixels: Pixels, served: Served) -> Pixels:
    seen: Pixels = to_tensor(pixels, served.card.preprocess).permute(1, 2, 0).numpy()
    return seen


def predictor(served: Served) -> Predict:
    return lambda pictures: through(served.batcher, pictures, lambda: False)


def deletion_area(picture: Pixels, worth: NDArray[Any], label: int, predict: Predict) -> float:
    """Mean probability of the label while the most important places are covered first; lower is better.

    Shapes: worth (S, S)
    """
    order = np.argsort(-worth.ravel(), kind="stable")
    ground = picture.mean(axis=(0, 1)).astype(np.uint8)

    def covered() -> Iterable[Pixels]:
        for step in range(STEPS + 1):
            shown = picture.reshape(-1, 3).copy()
            shown[order[: len(order) * step // STEPS]] = ground
            yield shown.reshape(picture.shape)

    return float(np.mean([row[label] for row in predict(covered())]))


def bench_deletion(
    console: Console, served: Served, folder: Path, split: str, images: int, samples: int
) -> None:
    """All masks cover whole superpixels of the same picture: small holes spoil a picture more than one large one."""
    network = load_network(served.card, served.head, folder)
    assert isinstance(network, Classifier)
    predict, random = predictor(served), np.random.default_rng(0)
    gains: dict[str, list[float]] = {"LIME": [], "activation map": [], "what is nearest to the centre": []}
    for number, pixels in enumerate(track(pictures_of(split, images), "deleting")):
        picture = as_seen(pixels, served)
        label = int(np.argmax(predict([picture])[0][: len(served.card.labels)]))
        areas = superpixels(picture)
        chance = np.mean(
            [
                deletion_area(picture, random.permutation(areas.max() + 1)[areas], label, predict)
                for _ in range(RANDOM_ORDERS)
            ]
        )
        tensor = to_tensor(pixels, served.card.preprocess)
        for name, worth in zip(
            gains,
            (
                lime_weights(picture, label, samples, number, predict),
                activation_map(network, served.card, tensor, label),
                averaged(nearness(len(picture)), areas),
            ),
            strict=True,
        ):
            gains[name].append(float(chance) - deletion_area(picture, worth, label, predict))
    for name, values in gains.items():
        draws = random.choice(values, (2_000, len(values))).mean(axis=1)
        low, high = np.quantile(draws, (0.025, 0.975))
        console.print(
            f"  {name}: deletion area lower than a random mask's by {np.mean(values):.3f} "
            f"(95 % {low:.3f} to {high:.3f}), {len(values)} pictures of {split}, {samples} samples"
        )


def nearness(side: int) -> NDArray[np.float32]:
    """Greatest in the middle, where a dermatoscope's picture has its lesion: it needs no network, and explains nothing.

    Shapes: -> (side, side)
    """
    away = np.arange(side) - (side - 1) / 2
    return -np.hypot(*np.meshgrid(away, away)).astype(np.float32)


def pictures_of(split: str, count: int) -> list[Pixels]:
    """As many of a split, evenly spread over its labels' order."""
    samples = [s for s in read_data(SKIN, PIPELINES["skin"]) if s.split == split]
    chosen = [samples[index] for index in np.linspace(0, len(samples) - 1, count).round().astype(int)]
    with Archives() as archives:
        return [decode(s.copies[0].read(archives), Limits()) for s in chosen]


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.explain")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--split", choices=SPLITS, default="test", help="val is what maps were chosen on")
    parser.add_argument("--level", choices=tuple(SAMPLES), default="low")
    parser.add_argument("--speed", action="store_true", help="only how long 1,000 samples take")
    options = parser.parse_args()
    console, settings = Console(), Settings()
    models = Models(settings)
    served = models.served(PIPELINES["skin"].heads[0])
    console.print("[bold]Explanations[/bold]")
    if options.speed:
        bench_speed(console, served)
    else:
        folder = settings.models_path / "skin"
        bench_deletion(console, served, folder, options.split, options.images, SAMPLES[options.level])
    models.close()


if __name__ == "__main__":
    main()
