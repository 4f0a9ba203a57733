"""The network all-MiniLM-L6-v2 as OpenVINO computes it, built from its weights without torch.

A BERT encoder of 6 layers, whose output's mean over the tokens is a sentence's vector.
Source: Devlin et al. 2018, arXiv:1810.04805; Reimers and Gurevych 2019, arXiv:1908.10084
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from workers.openvino_import import import_openvino

LAYERS, HEADS, WIDTH = 6, 12, 384
NORM_EPS = 1e-12
# One core, since answers are written beside a vision worker, and more would not make a short sentence faster.
OPTIONS = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1"}

Vector = NDArray[np.float32]


class MiniLM:
    """Token ids to a vector. One call at a time: the caller holds a lock.

    Weights are kept as whole numbers of 8 bits, with a scale for each row: half the time of float32, and 60 MB less;
    the cosine between both vectors was at least 0.998 in 104 sentences.
    """

    def __init__(self, weights: Path) -> None:
        """Raises: OSError, SafetensorError or RuntimeError if these are not that network's weights"""
        with safe_open(weights, "numpy") as file:
            self._places = (
                file.get_tensor("embeddings.position_embeddings.weight")
                + file.get_tensor("embeddings.token_type_embeddings.weight")[0]
            )
            model = import_openvino().Core().compile_model(_Builder(file.get_tensor).model(), "CPU", OPTIONS)
        self._request = model.create_infer_request()
        # Opened anew, since what was read above would stay mapped. Of these 47 MB rows are read as they are asked for.
        self._file = safe_open(weights, "numpy")
        self._words = self._file.get_slice("embeddings.word_embeddings.weight")  # type: ignore[no-untyped-call]

    def vector(self, ids: list[int]) -> Vector:
        """Shapes: T token ids -> (WIDTH,) of length 1"""
        rows = np.concatenate([self._words[one : one + 1] for one in ids]) + self._places[: len(ids)]
        mean: Vector = self._request.infer([rows])[0]
        unit: Vector = mean / np.linalg.norm(mean)
        return unit


class _Builder:
    """Names are those of the weights' file, which are Hugging Face's."""

    def __init__(self, tensor: Any) -> None:
        import_openvino()
        from openvino import opset13

        self._op, self._tensor = opset13, tensor

    def model(self) -> Any:
        """Shapes: (T, WIDTH) embeddings of words and places -> (WIDTH,)"""
        op = self._op
        inputs = op.parameter([-1, WIDTH], np.float32)
        x = self._norm(inputs, "embeddings.LayerNorm")
        for layer in range(LAYERS):
            x = self._layer(x, f"encoder.layer.{layer}")
        mean = op.reduce_mean(x, self._whole(0), False)
        return import_openvino().Model([mean], [inputs])

    def _layer(self, x: Any, name: str) -> Any:
        op = self._op
        seen = self._linear(self._attention(x, name), f"{name}.attention.output.dense")
        x = self._norm(op.add(x, seen), f"{name}.attention.output.LayerNorm")
        wide = op.gelu(self._linear(x, f"{name}.intermediate.dense"), "erf")
        return self._norm(op.add(x, self._linear(wide, f"{name}.output.dense")), f"{name}.output.LayerNorm")

    def _attention(self, x: Any, name: str) -> Any:
        """Shapes: (T, WIDTH) -> (T, WIDTH); between them (HEADS, T, WIDTH / HEADS)"""
        op = self._op
        query, key, value = (
            op.transpose(
                op.reshape(
                    self._linear(x, f"{name}.attention.self.{part}"),
                    self._whole(0, HEADS, WIDTH // HEADS),
                    True,
                ),
                self._whole(1, 0, 2),
            )
            for part in ("query", "key", "value")
        )
        scale = op.constant(np.float32((WIDTH // HEADS) ** -0.5))
        weights = op.softmax(op.multiply(op.matmul(query, key, False, True), scale), -1)
        joined = op.transpose(op.matmul(weights, value, False, False), self._whole(1, 0, 2))
        return op.reshape(joined, self._whole(0, WIDTH), True)

    def _linear(self, x: Any, name: str) -> Any:
        op, weight = self._op, self._tensor(f"{name}.weight")  # (out, in)
        scale = (np.abs(weight).max(axis=1, keepdims=True) / 127).astype(np.float32)
        whole = op.convert(op.constant(np.round(weight / scale).astype(np.int8)), "f32")
        product = op.matmul(x, op.multiply(whole, op.constant(scale)), False, True)
        return op.add(product, op.constant(self._tensor(f"{name}.bias")[None]))

    def _norm(self, x: Any, name: str) -> Any:
        op = self._op
        even = op.mvn(x, self._whole(1), True, NORM_EPS, "inside_sqrt")
        scaled = op.multiply(even, op.constant(self._tensor(f"{name}.weight")[None]))
        return op.add(scaled, op.constant(self._tensor(f"{name}.bias")[None]))

    def _whole(self, *numbers: int) -> Any:
        return self._op.constant(np.array(numbers, np.int64))
