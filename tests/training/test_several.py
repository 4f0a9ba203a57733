"""Two processes that share each microbatch end with the weights of one that has all of it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.servers import free_port
from training.train import main

Tree = Callable[..., Path]

# LayerNorm: a BatchNorm would see half a microbatch, which is another network and not another engine.
CONFIG = """
pipeline = "skin"
network = "test_convnext"
precision = "float32"
seed = 3
first_px = 32
last_px = 32
serve_px = 32
cache_px = 40
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
epochs = 1
microbatch = 28
learning_rate = 0.001
weight_decay = 0.01
drop = 0.0
drop_path = 0.0
ema = 0.5
data = "drawn"
licence = "none"
"""


# As `-m training.train`, but without a thousand draws of the bootstrap.
SCRIPT = """
from training import metrics, train

metrics.DRAWS = 10
train.main()
"""


def test_two_gloo_processes_match_one(tree: Tree, tmp_path: Path) -> None:
    config, script = tmp_path / "config.toml", tmp_path / "script.py"
    config.write_text(CONFIG)
    script.write_text(SCRIPT)

    def arguments(name: str) -> list[str]:
        places = ["--out", str(tmp_path / name), "--run-folder", str(tmp_path / f"run-{name}")]
        return ["--pipeline", "skin", "--config", str(config), "--data", str(data), *places]

    data = tree()
    main(arguments("one"))
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    started = subprocess.run(
        [sys.executable, *torchrun, str(script), "--devices", "2", *arguments("two")],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": "."},
        capture_output=True,
        timeout=280,
        check=False,
    )
    assert started.returncode == 0, started.stderr.decode()[-3000:]
    weights = {name: load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two")}
    for name, value in weights["one"].items():
        # float16 on disk: neighbours differ by up to 2^-11 of their size
        other = weights["two"][name].float()
        assert torch.allclose(other, value.float(), rtol=2**-10, atol=1e-4), name
