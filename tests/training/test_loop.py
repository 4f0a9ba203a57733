"""The loop's parts: what an epoch draws, how sizes grow, what is blended, and when a run stops."""

from pathlib import Path

import pytest
import torch

from shared.catalog import PIPELINES
from shared.networks import build_network
from training.config import TrainConfig
from training.kinds import objective_for
from training.loop import Feed, Trainer, draw, generator, size_of
from training.mixing import blended, cutmix, mixup
from training.train import make_fabric

HEAD = PIPELINES["skin"].heads[0]


def feed_of(truth: torch.Tensor, owner: torch.Tensor | None = None, side: int = 32) -> Feed:
    owner = torch.arange(len(truth)) if owner is None else owner
    pictures = torch.randint(0, 256, (len(owner), 3, side, side), dtype=torch.uint8, generator=generator(1))
    return Feed(pictures, owner, truth)


def trainer(config: TrainConfig, feed: Feed) -> Trainer:
    fabric = make_fabric(config)
    objective = objective_for(HEAD, config.preprocess(), fabric.device, config)
    objective.start(feed.truth)
    torch.manual_seed(config.seed)
    return Trainer(config, build_network(config.architecture, HEAD), objective, feed, fabric)


def test_the_sampling_mends_half_of_the_imbalance_and_the_loss_the_rest(config: TrainConfig) -> None:
    truth = torch.tensor([0] * 900 + [1] * 100)
    run = trainer(config, feed_of(truth))
    drawn = truth[torch.cat([draw(run, epoch).flatten() for epoch in range(20)])]
    shares = torch.bincount(drawn) / len(drawn)
    assert shares[0] / shares[1] == pytest.approx(3, rel=0.1)  # the square root of 9
    adjustment = run.objective.adjustment[:2]  # type: ignore[attr-defined]
    assert adjustment.softmax(0).tolist() == pytest.approx(shares.tolist(), abs=0.02)


def test_without_sampling_each_picture_comes_once(config: TrainConfig) -> None:
    plain = config.model_copy(update={"sampling_power": 0.0, "microbatch": 5})
    run = trainer(plain, feed_of(torch.arange(20) % 7))
    assert sorted(draw(run, 0).flatten().tolist()) == list(range(20))
    assert not torch.equal(draw(run, 0), draw(run, 1))


def test_copies_of_a_picture_share_its_chance(config: TrainConfig) -> None:
    owner = torch.tensor([0, 0, 0, 1])  # three copies of the first
    run = trainer(config.model_copy(update={"microbatch": 2}), feed_of(torch.tensor([0, 0]), owner))
    drawn = owner[torch.cat([draw(run, epoch).flatten() for epoch in range(800)])]
    assert (drawn == 0).float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_a_subset_keeps_every_copy_of_its_samples() -> None:
    feed = feed_of(torch.tensor([5, 6, 4]), torch.tensor([0, 1, 1, 2]))
    part = feed.subset(torch.tensor([1, 2]).numpy())
    assert part.owner.tolist() == [0, 0, 1]
    assert part.truth.tolist() == [6, 4]
    assert torch.equal(part.pictures, feed.pictures[1:])


def test_sizes_grow_from_first_to_last(config: TrainConfig) -> None:
    grown = config.model_copy(update={"first_px": 128, "last_px": 192, "epochs": 5})
    assert [size_of(grown, epoch) for epoch in range(5)] == [128, 128, 160, 192, 192]


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_a_blend_keeps_each_target_a_distribution(mix) -> None:  # type: ignore[no-untyped-def]
    batch, target = torch.rand(8, 3, 16, 16), torch.eye(8)
    for seed in range(20):
        mixed, shares = mix(batch, target, 0.4, generator(seed))
        assert mixed.shape == batch.shape
        assert shares.sum(dim=1).tolist() == pytest.approx([1.0] * 8)


def test_cutmix_gives_each_label_the_share_of_its_pixels() -> None:
    batch = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 3, 32, 32)
    for seed in range(10):
        mixed, shares = cutmix(batch, torch.eye(8), 1.0, generator(seed))
        for row in range(8):
            counted = torch.bincount(mixed[row, 0].flatten().long(), minlength=8) / 32**2
            assert shares[row].tolist() == pytest.approx(counted.tolist(), abs=1e-5)


def test_masks_are_never_blended(config: TrainConfig) -> None:
    batch, masks = torch.rand(4, 3, 8, 8), torch.randint(0, 2, (4, 8, 8))
    for seed in range(10):
        same, target = blended(batch, masks, config, generator(seed))
        assert same is batch
        assert target is masks


def test_a_run_stops_when_no_epoch_is_better_and_keeps_the_best(config: TrainConfig) -> None:
    patient = config.model_copy(update={"epochs": 9, "patience": 2, "keep_best": "figure", "ema": 0.0})
    run = trainer(patient, feed_of(torch.arange(24) % 7))
    figures = iter([0.1, 0.7, 0.6, 0.5, 0.9])
    kept: list[torch.Tensor] = []

    def validate(network: torch.nn.Module) -> dict[str, float]:
        kept.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
        return {"figure": next(figures)}

    network = run.fit(validate, lambda row: None)
    assert len(run.at.history) == 4
    assert torch.equal(torch.cat([p.detach().flatten() for p in network.parameters()]), kept[1])


@pytest.mark.parametrize(
    ("schedule", "falls"), [("one_cycle", True), ("cosine", True), ("plateau", True), ("constant", False)]
)
def test_each_schedule_lowers_the_rate_as_it_should(config: TrainConfig, schedule: str, falls: bool) -> None:
    planned = config.model_copy(update={"schedule": schedule, "keep_best": "figure", "epochs": 8})
    run = trainer(planned, feed_of(torch.arange(12) % 7))
    run.fit(lambda network: {"figure": 0.5}, lambda row: None)
    rates = [row["learning_rate"] for row in run.at.history]
    assert (rates[-1] < 0.5 * max(rates)) is falls


def test_a_data_set_smaller_than_a_microbatch_is_refused(config: TrainConfig) -> None:
    with pytest.raises(ValueError, match="do not fill one microbatch"):
        trainer(config, feed_of(torch.arange(5)))


def test_patience_without_a_figure_is_refused(config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="patience needs keep_best"):
        TrainConfig.model_validate(config.model_dump() | {"patience": 3})
