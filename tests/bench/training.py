"""Training images/s of the trainer over a bare loop with the same network, views and optimizer."""

import statistics
import time
from pathlib import Path

import torch
from rich.console import Console

from shared.catalog import PIPELINES
from shared.networks import build_network
from shared.preprocess import normalise
from training.augment import augment, draw_views
from training.config import TrainConfig, load_config
from training.kinds import objective_for
from training.loop import Feed, Trainer, draw, generator
from training.objective import Objective
from training.train import PRECISIONS, make_fabric

CONFIG = Path(__file__).parents[2] / "training/configs/skin.toml"
STEPS, ROUNDS, MICROBATCH, SIZE_PX = 8, 3, 32, 128


def bare(config: TrainConfig, objective: Objective, feed: Feed, device: torch.device) -> float:
    """Images/s of a loop with nothing around it: no average, schedule, progress or checkpoint."""
    network = build_network(config.architecture, objective.head, drop=config.drop)
    network = network.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate)
    random = generator(config.seed)
    began = 0.0
    for step in range(STEPS + 1):
        if step == 1:  # the first step warms up
            began = _now(device)
        chosen = torch.randperm(len(feed.owner), generator=random)[:MICROBATCH]
        views = draw_views(MICROBATCH, config.augment, random).share(slice(None), device)
        batch = augment(feed.pictures[chosen].to(device), views, SIZE_PX)
        batch = normalise(batch, config.preprocess(), torch.float32)
        target = objective.target(feed.truth[chosen]).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            logits = network(batch)
        loss = objective.loss(logits, target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip)
        optimizer.step()
    return STEPS * MICROBATCH / (_now(device) - began)


def ours(trainer: Trainer) -> float:
    """Images/s of the trainer's own epoch, after one step that warms up."""
    trainer.network.train()
    trainer._step(draw(trainer, 0)[0], SIZE_PX)
    trainer.at.step = trainer.steps - STEPS
    began = _now(trainer.fabric.device)
    trainer._epoch(lambda: None)
    return STEPS * MICROBATCH / (_now(trainer.fabric.device) - began)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def bench(console: Console) -> None:
    config = load_config(CONFIG).model_copy(
        update={"microbatch": MICROBATCH, "first_px": SIZE_PX, "last_px": SIZE_PX, "mixup": 0.0}
    )
    head = PIPELINES["skin"].heads[0]
    fabric = make_fabric(config)
    objective = objective_for(head, config.preprocess(), fabric.device, config)
    count = MICROBATCH * (STEPS + 2)
    random = generator(1)
    pictures = torch.randint(0, 256, (count, 224, 224, 3), dtype=torch.uint8, generator=random)
    truth = torch.arange(count) % len(head.labels)
    feed = Feed(pictures.permute(0, 3, 1, 2), torch.arange(count), truth)
    objective.start(truth)
    loops, trained = [], []
    for _ in range(ROUNDS):  # interleaved, since the machine's speed drifts
        loops.append(bare(config, objective, feed, fabric.device))
        network = build_network(config.architecture, head, drop=config.drop)
        trained.append(ours(Trainer(config, network, objective, feed, fabric)))
    ratios = [one / other for one, other in zip(trained, loops, strict=True)]
    name = f"{config.network}, {SIZE_PX} px, {MICROBATCH} a step, {PRECISIONS[config.precision]}"
    console.print(f"[bold]Training over a bare loop[/bold], {name}")
    for title, values in (("bare loop, images/s", loops), ("trainer, images/s", trained), ("ratio", ratios)):
        console.print(
            f"  {title:<20} median {statistics.median(values):7.2f}   min {min(values):7.2f}   max {max(values):7.2f}"
        )


if __name__ == "__main__":
    bench(Console())
