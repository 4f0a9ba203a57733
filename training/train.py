"""Train a pipeline's classifier: data, network, epochs, calibration, card; reads top to bottom.

python -m training.train --pipeline skin --data ../shared/data/skin
"""

import argparse
import importlib.metadata
import json
import math
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor
from torch.nn import functional as F

from shared.cards import Architecture, Metrics, ModelCard, Preprocess, save_card, sha256_of
from shared.catalog import PIPELINES
from shared.heads import probabilities
from shared.networks import WEIGHTS, Classifier, for_inference, load_network, save_weights
from shared.preprocess import normalise
from training.augment import augment
from training.calibrate import temperature, thresholds
from training.config import TrainConfig, load_config
from training.data import BadData, Sample, labels_of, load_pictures, read_ham10000
from training.evaluate import show
from training.forward import predict
from training.metrics import calibration_error, card_metrics, figures
from training.pretrained import load_pretrained

CACHE_PX = 224  # the size of the sharpest copies


@dataclass
class Run:
    """What one epoch needs and changes."""

    config: TrainConfig
    network: Classifier
    average: ModelEmaV3
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    adjustment: Tensor  # (classes,) added to the logits in training only
    random: torch.Generator
    device: torch.device


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="training.train", description=__doc__.splitlines()[0])
    parser.add_argument("--pipeline", required=True, choices=sorted(PIPELINES))
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--config", type=Path, help="default: training/configs/PIPELINE.toml")
    parser.add_argument("--out", type=Path, help="default: workers/models/PIPELINE")
    options = parser.parse_args(arguments)
    root = Path(__file__).parents[1]
    try:
        config = load_config(options.config or root / f"training/configs/{options.pipeline}.toml")
        train(config, options.data, options.out or root / "workers/models" / options.pipeline)
    except BadData as error:
        sys.exit(f"Cannot train {options.pipeline}:\n{error}")


def train(config: TrainConfig, data: Path, out: Path) -> ModelCard:
    """Train, calibrate on `val`, measure on `test`, write card and weights to `out`."""
    console = Console()
    started = time.monotonic()
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    head = PIPELINES[config.pipeline].heads[0]
    if head.kind != "classify":
        raise BadData(f"{config.pipeline} needs a {head.kind} head; only classification can be trained yet.")

    samples = read_ham10000(data, head.labels)
    split = {name: [s for s in samples if s.split == name] for name in ("train", "val", "test")}
    views = [(index, copy) for index, sample in enumerate(split["train"]) for copy in sample.copies]
    pictures = load_pictures([copy for _, copy in views], CACHE_PX, "reading train")
    owner = torch.tensor([index for index, _ in views])
    truth = torch.from_numpy(labels_of(split["train"]))
    held = load_pictures([s.copies[0] for s in split["val"]], config.serve_px, "reading val")

    run = _prepare(config, len(head.labels), truth, device)
    history = []
    for epoch in range(config.epochs):
        size_px = _size_px(config, epoch)
        title = f"epoch {epoch + 1}/{config.epochs} at {size_px} px"
        loss, speed = _epoch(run, pictures, owner, truth, size_px, title)
        logits = predict(run.average.module, held, _preprocess(config), config.microbatch, device)
        row = {"epoch": epoch + 1, "loss": loss, "images_per_s": speed, **_validate(logits, split["val"])}
        history.append({name: round(value, 4) for name, value in row.items()})
        console.print(json.dumps(history[-1]))
        out.mkdir(parents=True, exist_ok=True)
        save_weights(run.average.module, out / WEIGHTS, torch.float16)

    card = _card(config, head.labels, out, history, started)
    card = calibrated(card, out, split["val"], held, device)
    tested = load_pictures([s.copies[0] for s in split["test"]], config.serve_px, "reading test")
    card = measured(card, out, split["test"], tested, device)
    save_card(card, out)
    assert isinstance(card.metrics, Metrics)
    show(card, card.metrics, console)
    return card


def _prepare(config: TrainConfig, classes: int, truth: Tensor, device: torch.device) -> Run:
    architecture = Architecture(name=config.network, pretrained=config.pretrained)
    network = Classifier(architecture, classes, drop=config.drop, drop_path=config.drop_path)
    if config.pretrained:
        load_pretrained(network, config.pretrained)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(_weight_groups(network, config.weight_decay), lr=config.learning_rate)
    steps = config.epochs * (len(truth) // config.microbatch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, steps, pct_start=0.15)
    sampled = torch.bincount(truth, minlength=classes).float() ** (1 - config.sampling_power)
    adjustment = config.logit_adjustment * (sampled / sampled.sum()).clamp_min(1e-6).log()
    return Run(
        config,
        network,
        ModelEmaV3(network, decay=config.ema, use_warmup=True),
        optimizer,
        schedule,
        adjustment.to(device),
        torch.Generator().manual_seed(config.seed),
        device,
    )


def _weight_groups(network: Classifier, weight_decay: float) -> list[dict[str, object]]:
    """Biases and normalisation weights do not decay."""
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def _draw(run: Run, owner: Tensor, truth: Tensor) -> Tensor:
    """One epoch's pictures: class frequencies to the power 1 - sampling_power, copies of a picture alike."""
    per_class = torch.bincount(truth).float() ** -run.config.sampling_power
    weights = per_class[truth[owner]] / torch.bincount(owner)[owner]
    count = len(truth) // run.config.microbatch * run.config.microbatch
    return torch.multinomial(weights, count, replacement=True, generator=run.random)


def _size_px(config: TrainConfig, epoch: int) -> int:
    """The training size of an epoch, a multiple of 32, from `first_px` to `last_px`."""
    share = epoch / max(1, config.epochs - 1)
    return round((config.first_px + share * (config.last_px - config.first_px)) / 32) * 32


def _epoch(
    run: Run, pictures: Tensor, owner: Tensor, truth: Tensor, size_px: int, title: str
) -> tuple[float, float]:
    """One pass; returns the mean loss and images per second."""
    config, total, began = run.config, 0.0, time.monotonic()
    chunks = _draw(run, owner, truth).split(config.microbatch)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        bar = progress.add_task(title, total=len(chunks))
        run.network.train()
        for chosen in chunks:
            batch = augment(pictures[chosen], size_px, run.random).to(run.device)
            target = F.one_hot(truth[owner[chosen]], len(run.adjustment)).float().to(run.device)
            batch, target = _mixup(batch, target, config.mixup, run.random)
            batch = normalise(batch, _preprocess(config), torch.float32)
            with torch.autocast(run.device.type, dtype=torch.bfloat16):
                logits = run.network(batch)
            loss = F.cross_entropy(logits + run.adjustment, target, label_smoothing=config.label_smoothing)
            run.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(run.network.parameters(), 5.0)
            run.optimizer.step()
            run.schedule.step()
            run.average.update(run.network, step=run.schedule.last_epoch)
            total += loss.item()
            progress.update(bar, advance=1, description=f"{title} loss {loss.item():.3f}")
    images = len(chunks) * config.microbatch
    return total / len(chunks), images / (time.monotonic() - began)


def _mixup(batch: Tensor, target: Tensor, alpha: float, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Blend every picture with another, in every second microbatch.

    Shapes: batch (N, 3, H, W), target (N, C) -> the same
    Source: Zhang et al. 2017, arXiv:1710.09412
    """
    if not alpha or torch.rand(1, generator=random).item() < 0.5:
        return batch, target
    seed = int(torch.randint(2**31, (1,), generator=random))
    share = float(np.random.default_rng(seed).beta(alpha, alpha))
    other = torch.randperm(len(batch), generator=random)
    return batch * share + batch[other] * (1 - share), target * share + target[other] * (1 - share)


def _validate(logits: Tensor, samples: list[Sample]) -> dict[str, float]:
    truth, values = labels_of(samples), logits.double().numpy()
    scaled = torch.softmax(logits.double() / temperature(values, truth), dim=1).numpy()
    found = figures(truth, scaled, np.full(scaled.shape[1], 0.5))
    return {name: found[name] for name in ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc")} | {
        "calibration_error": calibration_error(truth, scaled)
    }


def _preprocess(config: TrainConfig) -> Preprocess:
    return Preprocess(size_px=config.serve_px, mean=config.mean, std=config.std)


def _card(config: TrainConfig, labels: tuple, out: Path, history: list[dict], started: float) -> ModelCard:  # type: ignore[type-arg]
    now = datetime.now(UTC)
    return ModelCard(
        name=config.pipeline,
        version=now.strftime("%Y%m%d.%H%M"),
        head="classify",
        architecture=Architecture(name=config.network, pretrained=config.pretrained),
        preprocess=_preprocess(config),
        labels=tuple(label.code for label in labels),
        thresholds={label.code: 0.5 for label in labels},
        temperature=1.0,
        largest_microbatch=32,
        data=config.data,
        licence=config.licence,
        training={
            "config": config.model_dump(mode="json", exclude={"data", "licence"}),
            "torch": importlib.metadata.version("torch"),
            "minutes": math.ceil((time.monotonic() - started) / 60),
            "history": history,
        },
        weights_dtype="float16",
        sha256=sha256_of(out / WEIGHTS),
    )


def calibrated(
    card: ModelCard, folder: Path, samples: list[Sample], pictures: Tensor, device: torch.device
) -> ModelCard:
    """The card with temperature and thresholds from `val`, on the weights as they were saved."""
    head = PIPELINES[card.name].heads[0]
    network = load_network(card, head, folder).to(device)
    logits = predict(network, pictures, card.preprocess, 64, device)
    truth = labels_of(samples)
    card = card.model_copy(update={"temperature": round(temperature(logits.double().numpy(), truth), 4)})
    exact = probabilities(logits, card)
    coarse = for_inference(network, device, torch.bfloat16)
    rounded = probabilities(predict(coarse, pictures, card.preprocess, 64, device, torch.bfloat16), card)
    return card.model_copy(
        update={
            "thresholds": thresholds(card.labels, exact.double().numpy(), truth),
            "bfloat16_deviation": round(float((rounded - exact).abs().max()), 4),
        }
    )


def measured(
    card: ModelCard, folder: Path, samples: list[Sample], pictures: Tensor, device: torch.device
) -> ModelCard:
    """The card with the figures of `samples`, in float32, from the weights as they were saved."""
    head = PIPELINES[card.name].heads[0]
    logits = predict(load_network(card, head, folder).to(device), pictures, card.preprocess, 64, device)
    found = card_metrics(
        samples[0].split,
        card.labels,
        [sample.group for sample in samples],
        labels_of(samples),
        probabilities(logits, card).double().numpy(),
        card.thresholds,
    )
    return card.model_copy(update={"metrics": found})


if __name__ == "__main__":
    main()
