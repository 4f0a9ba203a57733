"""The runtimes that compute networks: OpenVINO finds what torch finds, or is not used."""

import importlib
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from shared.cards import ModelCard
from shared.catalog import PIPELINES
from shared.networks import Network, load_network
from tests.tiny import tiny_model
from workers import runtime
from workers.runtime import Runtime, pick_runtime, torch_runtime

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, ModelCard]:
    folder = tmp_path_factory.mktemp("models")
    card = tiny_model(folder)
    return load_network(card, PIPELINES["skin"].heads[0], folder / "skin"), card


def pictures(count: int, size_px: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(count)
    drawn = torch.randint(256, (count, size_px, size_px, 3), dtype=torch.uint8, generator=random)
    return drawn.permute(0, 3, 1, 2)


def test_openvino_answers_as_torch_does_for_every_size_of_microbatch(
    model: tuple[Network, ModelCard],
) -> None:
    picked = pick_runtime("auto", *model, CPU, torch.float32, threads=1)
    assert picked.name == "openvino"
    reference = torch_runtime(*model, CPU, torch.float32)
    earlier = []
    for count in (1, 3, 32, 2):
        batch = pictures(count, model[1].preprocess.size_px)
        with torch.inference_mode():
            expected = reference.run(batch)
        earlier.append((picked.run(batch), expected))
    for answer, expected in earlier:  # looked at last: an answer must survive the passes after it
        assert torch.allclose(answer, expected, atol=1e-4)


def test_openvino_tells_nobody_that_it_is_used(model: tuple[Network, ModelCard]) -> None:
    runtime.openvino_runtime(*model, threads=1)
    telemetry = importlib.import_module("openvino.tools.ovc.telemetry_utils")
    assert sys.modules["openvino_telemetry"] is None
    assert telemetry.tm.__name__ == "openvino.tools.ovc.telemetry_stub"


def test_openvino_is_not_used_in_bfloat16_or_where_torch_is_asked_for(
    model: tuple[Network, ModelCard],
) -> None:
    assert pick_runtime("auto", *model, CPU, torch.bfloat16, threads=0).name == "torch"
    assert pick_runtime("torch", *model, CPU, torch.float32, threads=0).name == "torch"


def test_openvino_is_refused_when_it_finds_something_else(
    model: tuple[Network, ModelCard], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = runtime.openvino_runtime

    def wrong(network: Network, card: ModelCard, threads: int) -> Runtime:
        made = right(network, card, threads)
        return replace(made, run=lambda batch: made.run(batch) + 0.001)

    monkeypatch.setattr(runtime, "openvino_runtime", wrong)
    assert pick_runtime("auto", *model, CPU, torch.float32, threads=1).name == "torch"


def test_a_network_that_openvino_does_not_know_is_served_by_torch(model: tuple[Network, ModelCard]) -> None:
    class Unknown(nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(batch).mean(dim=(2, 3))

    class Odd(Network):
        body = Unknown()

        def last_layer(self) -> nn.Module:
            return nn.Identity()

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return self.body(batch)  # type: ignore[no-any-return]

    assert pick_runtime("auto", Odd(), model[1], CPU, torch.float32, threads=1).name == "torch"
