"""The epochs of a run: the same for every kind of head, on one device or, by Lightning Fabric, on several.

Everything random in a step is drawn from the seed, the epoch and the step. So a run that goes on from a
checkpoint, and one that is shared by several processes, draw what the whole run in one process would draw.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor
from torch.optim import lr_scheduler

from shared.networks import Network
from shared.preprocess import normalise
from training import checkpoint
from training.augment import augment, augment_both, draw_views
from training.config import TrainConfig
from training.mixing import blended
from training.objective import Objective

SHOW_EVERY = 10  # steps: to ask for the loss more often would make the device wait


@dataclass(frozen=True)
class Feed:
    """What epochs draw from: pictures, several of which may show one sample."""

    pictures: Tensor  # (V, 3, P, P) uint8
    owner: Tensor  # (V,) position of each picture's sample
    truth: Tensor  # (N, ...) integers

    def subset(self, rows: NDArray[np.int64]) -> "Feed":
        """Some samples with all their pictures."""
        place = torch.full((len(self.truth),), -1)
        place[torch.from_numpy(rows)] = torch.arange(len(rows))
        kept = place[self.owner] >= 0
        return Feed(self.pictures[kept], place[self.owner[kept]], self.truth[torch.from_numpy(rows)])


@dataclass
class Progressed:
    """How far a run is."""

    epoch: int = 0
    step: int = 0  # within the epoch
    total: float = 0.0  # of the losses of this epoch
    history: list[dict[str, Any]] = field(default_factory=list)
    best: float | None = None
    best_epoch: int = 0
    best_weights: dict[str, Tensor] | None = None


Validate = Callable[[Network], dict[str, float]]
Tell = Callable[[dict[str, Any]], None]


class Trainer:
    """One run: a network, its average, the optimizer, and how far they are."""

    def __init__(
        self, config: TrainConfig, network: Network, objective: Objective, feed: Feed, fabric: Fabric
    ) -> None:
        if config.microbatch % fabric.world_size:
            raise ValueError(
                f"{fabric.world_size} processes cannot share a microbatch of {config.microbatch}"
            )
        self.config, self.objective, self.feed, self.fabric = config, objective, feed, fabric
        self.steps = len(feed.truth) // config.microbatch
        if not self.steps:
            raise ValueError(f"{len(feed.truth)} pictures do not fill one microbatch of {config.microbatch}")
        self.raw = network.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = ModelEmaV3(self.raw, decay=config.ema, use_warmup=True)
        optimizer = torch.optim.AdamW(_weight_groups(self.raw, config.weight_decay), lr=config.learning_rate)
        self.network, self.optimizer = fabric.setup(self.raw, optimizer)
        self.schedule = make_schedule(config, self.optimizer, self.steps)
        self.sampling = objective.sampling(feed.truth)
        self.at = Progressed()

    def fit(self, validate: Validate, tell: Tell, folder: Path | None = None, run: str = "") -> Network:
        """Train to the end, from a checkpoint if there is one; returns the averaged network that is kept.

        Raises: BadData if the folder holds another run's checkpoint
        """
        if folder and (state := checkpoint.load(folder, run)):
            self._restore(state)
        while self.at.epoch < self.config.epochs and not self._stale():
            began, done = time.monotonic(), self.at.step
            self._epoch(lambda: self._save(folder, run))
            images = (self.steps - done) * self.config.microbatch
            row = {
                "epoch": self.at.epoch + 1,
                "loss": self.at.total / self.steps,
                "images_per_s": images / (time.monotonic() - began),
                "learning_rate": self.optimizer.param_groups[0]["lr"],
            }
            figures = validate(self.average.module) if self.fabric.is_global_zero else {}
            self._close_epoch(row, self.fabric.broadcast(figures))
            tell(self.at.history[-1])
            self._save(folder, run)
        kept: Network = self.average.module
        if self.at.best_weights is not None:
            kept.load_state_dict(self.at.best_weights)
        return kept

    def _epoch(self, save: Callable[[], None]) -> None:
        size_px = size_of(self.config, self.at.epoch)
        title = f"epoch {self.at.epoch + 1}/{self.config.epochs} at {size_px} px"
        order = draw(self, self.at.epoch)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        losses: list[Tensor] = []
        self.network.train()
        hidden = not self.fabric.is_global_zero
        began, first = time.monotonic(), self.at.step
        with Progress(*columns, transient=True, disable=hidden) as progress:
            bar = progress.add_task(title, total=self.steps, completed=self.at.step)
            while self.at.step < self.steps:
                losses.append(self._step(order[self.at.step], size_px))
                self.at.step += 1
                last = self.at.step == self.steps
                due = self._global_step() % self.config.checkpoint_steps == 0
                if last or due or len(losses) == SHOW_EVERY:
                    mean = float(torch.stack(losses).mean())
                    self.at.total += mean * len(losses)
                    losses.clear()
                    rate = (self.at.step - first) * self.config.microbatch / (time.monotonic() - began)
                    told = f"{title}, {rate:.0f} images/s, loss {mean:.3f}"
                    progress.update(bar, completed=self.at.step, description=told)
                if due and not last:
                    save()

    def _global_step(self) -> int:
        return self.at.epoch * self.steps + self.at.step

    def _step(self, chosen: Tensor, size_px: int) -> Tensor:
        """One microbatch, or this process' share of it; returns its loss, still on the device."""
        random = generator(self.config.seed, self.at.epoch, self.at.step)
        views = draw_views(len(chosen), self.config.augment, random)
        share = slice(self.fabric.global_rank, None, self.fabric.world_size)
        chosen, views = chosen[share], views.share(share, self.fabric.device)
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=random)) + self.fabric.global_rank)
        batch, target = self._viewed(chosen, views, size_px)
        batch, target = blended(batch, target, self.config, random)
        batch = normalise(batch, self.config.preprocess(), torch.float32)
        loss = self.objective.loss(self.network(batch), target)
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        if self.config.clip:
            self.fabric.clip_gradients(self.network, self.optimizer, max_norm=self.config.clip)
        self.optimizer.step()
        if self.config.schedule in ("one_cycle", "cosine"):
            self.schedule.step()
        self.average.update(self.raw, step=self._global_step() + 1)
        return loss.detach()

    def _viewed(self, chosen: Tensor, views: Any, size_px: int) -> tuple[Tensor, Tensor]:
        pictures = self.feed.pictures[chosen].to(self.fabric.device)
        truth = self.feed.truth[self.feed.owner[chosen]]
        if self.objective.head.kind == "segment":
            batch, masks = augment_both(pictures, truth.to(self.fabric.device), views, size_px)
            return batch, self.objective.target(masks)
        target = self.objective.target(truth).to(self.fabric.device)
        return augment(pictures, views, size_px), target

    def _close_epoch(self, row: dict[str, Any], figures: dict[str, float]) -> None:
        """Add the epoch to the history, and keep the weights if it was the best one."""
        self.at.history.append({name: round(value, 6) for name, value in (row | figures).items()})
        self.at.epoch, self.at.step, self.at.total = self.at.epoch + 1, 0, 0.0
        if not self.config.keep_best:
            return
        if self.config.keep_best not in figures:
            raise ValueError(f"keep_best must be one of {sorted(figures)}, not {self.config.keep_best!r}")
        value = figures[self.config.keep_best]
        if self.at.best is None or value > self.at.best:
            self.at.best, self.at.best_epoch = value, self.at.epoch
            self.at.best_weights = copy.deepcopy(self.average.module.state_dict())
        if isinstance(self.schedule, lr_scheduler.ReduceLROnPlateau):
            self.schedule.step(value)

    def _stale(self) -> bool:
        """No better epoch for `patience` epochs."""
        patience = self.config.patience
        return bool(patience) and self.at.epoch - self.at.best_epoch >= patience and self.at.epoch > 0

    def _save(self, folder: Path | None, run: str) -> None:
        if folder is None or not self.fabric.is_global_zero:
            return
        scaler = getattr(self.fabric._precision, "scaler", None)
        state = {
            "run": run,
            "network": self.raw.state_dict(),
            "average": self.average.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": scaler.state_dict() if scaler else None,
            "at": vars(self.at),
        }
        checkpoint.save(folder, state)

    def _restore(self, state: dict[str, Any]) -> None:
        self.raw.load_state_dict(state["network"])
        self.average.module.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if state["scaler"]:
            self.fabric._precision.scaler.load_state_dict(state["scaler"])  # type: ignore[attr-defined]
        self.at = Progressed(**state["at"])


def generator(*seeds: int) -> torch.Generator:
    """One whose numbers depend on all of `seeds`."""
    mixed = 0
    for seed in seeds:
        mixed = (mixed * 1_000_003 + seed + 1) % 2**61
    return torch.Generator().manual_seed(mixed)


def draw(run: Trainer, epoch: int) -> Tensor:
    """One epoch's pictures; the copies of a sample share its chance.

    Shapes: -> (steps, microbatch) positions of pictures
    """
    random, feed = generator(run.config.seed, epoch), run.feed
    count = run.steps * run.config.microbatch
    if run.sampling is None and len(feed.owner) == len(feed.truth):
        chosen = torch.randperm(len(feed.owner), generator=random)[:count]
    else:
        weights = torch.ones(len(feed.truth)) if run.sampling is None else run.sampling
        weights = weights[feed.owner] / torch.bincount(feed.owner)[feed.owner]
        chosen = torch.multinomial(weights, count, replacement=True, generator=random)
    return chosen.view(run.steps, run.config.microbatch)


def size_of(config: TrainConfig, epoch: int) -> int:
    """The training size of an epoch, a multiple of 32, from `first_px` to `last_px`."""
    share = epoch / max(1, config.epochs - 1)
    return round((config.first_px + share * (config.last_px - config.first_px)) / 32) * 32


def make_schedule(config: TrainConfig, optimizer: Any, steps: int) -> Any:
    """By step: one_cycle and cosine; by epoch: plateau, a tenth after 5 epochs that were not better."""
    total = config.epochs * steps
    if config.schedule == "one_cycle":
        return lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total, pct_start=0.15)
    if config.schedule == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, total)
    if config.schedule == "plateau":
        return lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.1, patience=5)
    return lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=0)


def _weight_groups(network: Network, weight_decay: float) -> list[dict[str, object]]:
    """Biases and normalisation weights do not decay."""
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
