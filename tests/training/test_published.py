"""The published recipes can be run: each network takes two steps of its own configuration, on small views."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from shared.catalog import PIPELINES
from shared.networks import build_network
from training import train
from training.config import TrainConfig, load_config
from training.feeding import load_feed
from training.kinds import objective_for
from training.loop import Trainer, draw
from training.samples import faults_of, leaks

Tree = Callable[..., Path]
CONFIGS = Path(train.__file__).parent / "configs"
PUBLISHED = sorted((CONFIGS / "published").glob("*.toml"))
HEAD = PIPELINES["skin"].heads[0]


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_a_published_network_takes_steps_on_the_leaky_split(path: Path, tree: Tree) -> None:
    config = load_config(path).model_copy(update={"microbatch": 2, "cache_px": 64})
    samples = train.read_samples(config, tree())
    assert leaks(samples)
    assert faults_of(samples, HEAD)
    assert not faults_of(samples, HEAD, config.dealt)
    fabric = train.make_fabric(config)
    objective = objective_for(HEAD, config.preprocess(), fabric.device, config)
    feed = load_feed([sample for sample in samples if sample.split == "train"][:4], config, objective)
    objective.start(feed.truth)
    trainer = Trainer(config, build_network(config.architecture, HEAD), objective, feed, fabric)
    before = [parameter.detach().clone() for parameter in trainer.raw.parameters()]
    trainer.network.train()
    losses = [trainer._step(chosen, 64) for chosen in draw(trainer, 0)]
    assert len(losses) == 2
    assert all(torch.isfinite(loss) for loss in losses)
    moved = [not torch.equal(a, b) for a, b in zip(before, trainer.raw.parameters(), strict=True)]
    assert sum(moved) > 0.9 * len(moved)


def test_a_leaky_run_says_so_in_its_card(tree: Tree, config: TrainConfig, tmp_path: Path) -> None:
    leaky = config.model_copy(update={"dealt": "fifth_by_picture", "epochs": 1})
    card = train.train(leaky, tree(), tmp_path / "leaky", tmp_path / "run-leaky")
    assert card.training["config"]["dealt"] == "fifth_by_picture"
    split = (tmp_path / "run-leaky" / "split.csv").read_text()
    assert ",val" in split
    assert ",test" in split


def test_the_two_recipes_that_show_what_a_leak_is_worth_differ_in_how_pictures_are_dealt(tree: Tree) -> None:
    leaky, grouped = (load_config(CONFIGS / f"leaking/by_{what}.toml") for what in ("picture", "group"))
    own = {"dealt", "data"}
    assert leaky.model_dump(exclude=own) == grouped.model_dump(exclude=own)
    assert (leaky.leaky, grouped.leaky) == (True, False)
    folder = tree()
    for config in (leaky, grouped):
        samples = train.read_samples(config, folder)
        once = [sample for sample in samples if sample.split != "test"]
        assert bool(leaks(once)) is config.leaky
        assert faults_of(samples, HEAD, config.dealt) == []
        assert faults_of(samples, HEAD), "as a split that chooses and reports it would be refused"
