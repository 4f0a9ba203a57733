"""The encoder computes what the network's weights say, and does without where they are missing."""

import importlib.util
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file
from structlog.testing import capture_logs
from torch import Tensor, nn

from workers import encoder as module
from workers.encoder import Encoder, find_encoder
from workers.minilm import HEADS, LAYERS, NORM_EPS, WIDTH

SENTENCES = [
    "Will it become cancer?",
    "A blister is to be expected. " * 30,
    "점",
    "",
    "?!",
    "\x00 \uffff 👍🏽",
]


def reference(weights: dict[str, Tensor], ids: list[int]) -> Tensor:
    """The same network by torch's own encoder layers, in float32."""
    part = lambda name: weights[f"embeddings.{name}"]  # noqa: E731
    rows = part("word_embeddings.weight")[ids] + part("position_embeddings.weight")[: len(ids)]
    x = nn.functional.layer_norm(
        rows + part("token_type_embeddings.weight")[0],
        (WIDTH,), part("LayerNorm.weight"), part("LayerNorm.bias"), NORM_EPS,
    )  # fmt: skip
    for number in range(LAYERS):
        x = layer(weights, f"encoder.layer.{number}.")(x[None])[0]
    return nn.functional.normalize(x.mean(0), dim=0)


def layer(weights: dict[str, Tensor], prefix: str) -> nn.Module:
    made = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, 0, "gelu", NORM_EPS, batch_first=True).eval()
    names = {
        "self_attn.out_proj": "attention.output.dense", "linear1": "intermediate.dense", "linear2": "output.dense",
        "norm1": "attention.output.LayerNorm", "norm2": "output.LayerNorm",
    }  # fmt: skip
    state = {
        f"{ours}.{end}": weights[f"{prefix}{theirs}.{end}"]
        for ours, theirs in names.items()
        for end in ("weight", "bias")
    }
    for end in ("weight", "bias"):
        parts = [weights[f"{prefix}attention.self.{one}.{end}"] for one in ("query", "key", "value")]
        state[f"self_attn.in_proj_{end}"] = torch.cat(parts)
    made.load_state_dict(state)
    return made


def folder() -> Path:
    found = importlib.util.find_spec(module.PACKAGE)
    assert found
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0]) / "model"


def test_vectors_are_those_of_the_network(encoder: Encoder) -> None:
    weights = load_file(folder() / "model.safetensors")
    for text in SENTENCES:
        with torch.inference_mode():
            expected = reference(weights, encoder._tokens.encode(text).ids).numpy()
        assert encoder.question(text) @ expected > 0.99, text


def test_a_vector_has_length_one_and_is_the_same_each_time(encoder: Encoder) -> None:
    for text in SENTENCES:
        once = encoder.question(text)
        assert once.shape == (WIDTH,)
        assert np.linalg.norm(once) == pytest.approx(1, abs=1e-5)
        assert (encoder.question(text) == once).all()


def test_threads_share_an_encoder(encoder: Encoder) -> None:
    asked = [f"Is spot {number} a mole?" for number in range(40)]
    alone = [encoder.question(text) for text in asked]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(encoder.question, asked))
    assert all((one == other).all() for one, other in zip(alone, together, strict=True))


def test_what_lies_beyond_the_longest_text_is_not_seen(encoder: Encoder) -> None:
    long = "mole " * 300
    assert (encoder.question(long) == encoder.question(long + "melanoma")).all()


def test_off_is_off() -> None:
    with capture_logs() as logs:
        assert find_encoder(False) is None
    assert [line["event"] for line in logs] == ["embeddings_off"]


def test_without_the_package_words_alone_decide_and_the_log_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGE", "no_such_package")
    with capture_logs() as logs:
        assert find_encoder(True) is None
    assert [(line["event"], line["log_level"]) for line in logs] == [("embeddings_missing", "warning")]
    assert "by their words alone" in logs[0]["detail"]


def test_with_other_weights_words_alone_decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "other_weights"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copy(folder() / "tokenizer.json", package / "model")
    save_file({"x": np.zeros(1)}, package / "model" / "model.safetensors")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, "PACKAGE", "other_weights")
    with capture_logs() as logs:
        assert find_encoder(True) is None
    assert [line["event"] for line in logs] == ["embeddings_missing"]


ALONE = """
import socket, sys

def refuse(*_):
    raise AssertionError("something asked the network")

socket.socket.connect = refuse
import workers.app
from workers.encoder import find_encoder
assert find_encoder(True).question("Will it become cancer?").shape
print([name for name in ("torch", "transformers", "huggingface_hub", "openvino_telemetry") if sys.modules.get(name)])
"""


def test_an_answer_worker_needs_neither_torch_nor_a_hub() -> None:
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
