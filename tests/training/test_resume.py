"""A run that is killed at any step and started again ends with the weights of one that was not."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.cards import sha256_of
from training import checkpoint
from training.config import TrainConfig
from training.samples import BadData
from training.train import main, train

Tree = Callable[..., Path]

# Trains in a process of its own, and kills that process in the middle of step `at`, counted over all epochs.
KILLED = """
import os, signal, sys
import torch
from training import loop, train

torch.set_num_threads(1)
at, taken, step = int(sys.argv[1]), [0], loop.Trainer._step

def counted(self, *arguments):
    loss = step(self, *arguments)
    taken[0] += 1
    if taken[0] == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return loss

loop.Trainer._step = counted
train.main(sys.argv[2:])
"""


@pytest.fixture
def eventful(config: TrainConfig, tmp_path: Path) -> Path:
    """A configuration with everything that has a state: average, schedule, dropout, Mixup, CutMix, best epoch."""
    path = tmp_path / "config.toml"
    lines = [
        'pipeline = "skin"', 'network = "test_efficientnet"', "seed = 3", "first_px = 32", "last_px = 32",
        "serve_px = 32", "cache_px = 40", "mean = [0.5, 0.5, 0.5]", "std = [0.5, 0.5, 0.5]", "epochs = 3",
        "microbatch = 12", "learning_rate = 0.01", "weight_decay = 0.01", "drop = 0.2", "drop_path = 0.1",
        "ema = 0.8", 'keep_best = "macro_auc"', "mixup = 0.2", "cutmix = 0.5", "checkpoint_steps = 2",
        "sampling_power = 0.5", 'data = "drawn"', 'licence = "none"',
    ]  # fmt: skip
    path.write_text("\n".join(lines))
    return path


def test_a_run_killed_at_three_random_steps_ends_with_the_same_weights(
    tree: Tree, eventful: Path, tmp_path: Path
) -> None:
    data = tree()
    arguments = ["--pipeline", "skin", "--data", str(data), "--config", str(eventful)]
    main([*arguments, "--out", str(tmp_path / "whole"), "--run-folder", str(tmp_path / "run-whole")])
    again = [*arguments, "--out", str(tmp_path / "killed"), "--run-folder", str(tmp_path / "run-killed")]
    seed = int(time.time())
    steps = sorted(random.Random(seed).sample(range(1, 7), 3))  # of 21; those after a checkpoint count anew
    for step in steps:
        ended = subprocess.run(
            [sys.executable, "-c", KILLED, str(step), *again],
            env=os.environ | {"PYTHONPATH": ".", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            timeout=250,
            check=False,
        )
        assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert (tmp_path / "run-killed" / checkpoint.NAME).exists()
    main(again)
    whole, killed = (sha256_of(tmp_path / name / "weights.safetensors") for name in ("whole", "killed"))
    assert whole == killed, f"seed {seed}, killed at steps {steps}"
    assert not (tmp_path / "run-killed" / checkpoint.NAME).exists()


def test_a_checkpoint_of_another_run_is_refused(tree: Tree, config: TrainConfig, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "run", {"run": "another"})
    with pytest.raises(BadData, match="holds an unfinished run with another configuration"):
        train(config, tree(), tmp_path / "out", tmp_path / "run")


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, {"run": "this", "step": 1})
    (tmp_path / f"{checkpoint.NAME}.new").write_bytes(b"half of a")
    assert checkpoint.load(tmp_path, "this") == {"run": "this", "step": 1}
