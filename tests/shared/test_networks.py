"""Preprocessing, networks and heads: the code that trains, evaluates and serves."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from shared.cards import Architecture, Preprocess
from shared.catalog import PIPELINES
from shared.errors import CardMismatch
from shared.heads import findings, grade_probabilities, pixel_probabilities, probabilities
from shared.networks import WEIGHTS, Classifier, Network, build_network, folded, for_inference, load_network
from shared.preprocess import normalise, to_tensor
from tests.tiny import tiny_model

HEAD = PIPELINES["skin"].heads[0]


def preprocess(size: int = 32) -> Preprocess:
    return Preprocess(size_px=size, mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.2))


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 90), width=st.integers(1, 90))
def test_any_picture_becomes_a_square(height: int, width: int) -> None:
    pixels = np.full((height, width, 3), 77, dtype=np.uint8)
    tensor = to_tensor(pixels, preprocess())
    assert tensor.shape == (3, 32, 32)
    assert (tensor == 77).all()


def test_the_square_is_the_middle_and_is_not_flipped() -> None:
    pixels = np.zeros((32, 64, 3), dtype=np.uint8)
    pixels[:, 16:48] = np.arange(32, dtype=np.uint8)[None, :, None]
    pixels[:16] += 100
    tensor = to_tensor(pixels, preprocess())
    assert np.array_equal(tensor.permute(1, 2, 0).numpy(), pixels[:, 16:48])


def test_the_whole_picture_is_stretched_when_the_card_says_so() -> None:
    pixels = np.zeros((32, 64, 3), dtype=np.uint8)
    pixels[:, :16], pixels[:, -16:] = 10, 200
    tensor = to_tensor(pixels, preprocess().model_copy(update={"crop": "whole"}))
    assert tensor.shape == (3, 32, 32)
    assert (tensor[:, :, :7] == 10).all()
    assert (tensor[:, :, -7:] == 200).all()


def test_a_tensor_does_not_keep_the_picture_alive() -> None:
    pixels = np.zeros((32, 500, 3), dtype=np.uint8)
    assert to_tensor(pixels, preprocess()).untyped_storage().nbytes() == 32 * 32 * 3


def test_normalisation_is_its_formula() -> None:
    batch = torch.randint(0, 256, (2, 3, 5, 5), dtype=torch.uint8)
    mean, std = torch.tensor(preprocess().mean), torch.tensor(preprocess().std)
    expected = (batch / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    assert torch.allclose(normalise(batch, preprocess(), torch.float32), expected, atol=1e-5)


def test_probabilities_are_a_softmax_at_the_cards_temperature(tmp_path: Path) -> None:
    card = tiny_model(tmp_path).model_copy(update={"temperature": 2.0})
    logits = torch.randn(4, 7)
    expected = np.exp(logits.double().numpy() / 2)
    expected /= expected.sum(axis=1, keepdims=True)
    assert probabilities(logits, card).numpy() == pytest.approx(expected, abs=1e-6)


def test_each_condition_has_its_own_softmax(tmp_path: Path) -> None:
    card = tiny_model(tmp_path, "scalp").model_copy(update={"temperature": 0.5})
    logits = torch.randn(3, 24)
    found = grade_probabilities(logits, card)
    assert found.shape == (3, 6, 4)
    second = np.exp(logits[1, 8:12].double().numpy() / 0.5)
    assert found[1, 2].numpy() == pytest.approx(second / second.sum(), abs=1e-6)


def test_each_pixel_has_its_own_softmax(tmp_path: Path) -> None:
    card = tiny_model(tmp_path, "chest-xray").model_copy(update={"temperature": 2.0})
    logits = torch.randn(2, 5, 4, 4)
    found = pixel_probabilities(logits, card)
    expected = np.exp(logits[0, :, 1, 2].double().numpy() / 2)
    assert found[0, :, 1, 2].numpy() == pytest.approx(expected / expected.sum(), abs=1e-6)


def test_findings_carry_each_labels_own_threshold(tmp_path: Path) -> None:
    cuts = {label.code: 0.1 * (n + 1) for n, label in enumerate(HEAD.labels)}
    card = tiny_model(tmp_path).model_copy(update={"thresholds": cuts})
    found = findings([0.3] * 7, card, HEAD, "fr")
    assert {finding.label: finding.above_threshold for finding in found} == {
        code: cut <= 0.3 for code, cut in cuts.items()
    }
    assert {finding.label: finding.name for finding in found}["mel"] == "Mélanome"


@pytest.mark.parametrize("damage", ["weights", "architecture", "missing"])
def test_weights_and_card_must_agree(tmp_path: Path, damage: str) -> None:
    card = tiny_model(tmp_path)
    folder = tmp_path / "skin"
    if damage == "weights":
        (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes() + b" ")
    elif damage == "missing":
        (folder / WEIGHTS).unlink()
    else:
        other = card.architecture.model_copy(update={"name": "test_resnet"})
        card = card.model_copy(update={"architecture": other})
    with pytest.raises(CardMismatch):
        load_network(card, HEAD, folder)


SEGMENT = PIPELINES["chest-xray"].heads[0]
ENCODER = {"encoder_name": "tu-test_efficientnet"}
SEGMENTERS = (
    Architecture(source="smp", name="Unet", options=ENCODER),
    Architecture(source="smp", name="FPN", options=ENCODER),
    Architecture(source="medq", name="unet_bn", options={"widths": (8, 16, 32)}),
)


@pytest.mark.parametrize("pipeline", sorted(PIPELINES))
def test_every_kind_of_head_loads_with_the_outputs_it_needs(pipeline: str, tmp_path: Path) -> None:
    head = PIPELINES[pipeline].heads[0]
    network = load_network(tiny_model(tmp_path, pipeline), head, tmp_path / pipeline)
    outputs = {
        "classify": (2, len(head.labels)),
        "grade": (2, len(head.labels) * len(head.grades)),
        "segment": (2, len(head.labels), 64, 64),
    }
    assert network(torch.randn(2, 3, 64, 64)).shape == outputs[head.kind]


def exercised(network: Network) -> Network:
    """In eval mode, with running means and variances that say something."""
    network.train()
    with torch.no_grad():
        network(torch.randn(4, 3, 96, 96) * 3 + 1)
    return network.eval()


@pytest.mark.parametrize("architecture", SEGMENTERS, ids=lambda a: a.name)
def test_a_segmenter_folds_and_keeps_its_last_layer_in_float32(architecture: Architecture) -> None:
    torch.manual_seed(0)
    network = exercised(build_network(architecture, SEGMENT))
    pictures = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        exact = network(pictures)
        assert torch.allclose(folded(network)(pictures), exact, atol=1e-4)
        coarse = for_inference(network, CPU, torch.bfloat16)(pictures.to(torch.bfloat16))
    assert exact.shape == (2, 5, 96, 96)
    assert coarse.dtype is torch.float32
    assert (coarse - exact).abs().mean() < 0.05 * exact.std() + 0.01


def test_the_published_u_net_has_its_widths() -> None:
    network = build_network(Architecture(source="medq", name="unet_bn"), SEGMENT)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions[:10:2]] == [64, 128, 256, 512, 1024]
    assert len([m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]) == 18
    assert sum(p.numel() for p in network.parameters()) > 31_000_000


def test_googlenet_is_torchvisions_with_its_logits_in_float32() -> None:
    head = PIPELINES["skin"].heads[0]
    network = exercised(build_network(Architecture(source="torchvision", name="googlenet"), head))
    coarse = for_inference(network, CPU, torch.bfloat16)
    assert coarse(torch.randn(2, 3, 64, 64).to(torch.bfloat16)).shape == (2, 7)
    assert network.last_layer().weight.shape == (7, 1024)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("pipeline", "architecture"),
    [
        ("skin", Architecture(source="medq", name="unet_bn")),
        ("skin", Architecture(name="no_such_network")),
        ("skin", Architecture(source="torchvision", name="resnet18")),
        ("lesion", Architecture(name="resnet18")),
        ("lesion", Architecture(source="smp", name="NoSuchNet")),
        ("lesion", Architecture(source="smp", name="Unet", options={"encoder_name": "no-such-encoder"})),
        ("lesion", Architecture(source="medq", name="unet_3d")),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.source}-{value.name}",
)
def test_a_network_that_cannot_answer_is_refused(pipeline: str, architecture: Architecture) -> None:
    with pytest.raises(ValueError, match=r"takes networks from|cannot build|from torchvision|own network"):
        build_network(architecture, PIPELINES[pipeline].heads[0])


CPU = torch.device("cpu")


def test_the_last_layer_stays_in_float32(tmp_path: Path) -> None:
    card = tiny_model(tmp_path)
    network = for_inference(load_network(card, HEAD, tmp_path / "skin"), CPU, torch.bfloat16)
    logits = network(torch.randn(2, 3, 32, 32).to(torch.bfloat16))
    assert logits.dtype is torch.float32
    assert network.body.get_classifier().weight.dtype is torch.float32  # type: ignore[operator]


# Normalisation behind the convolution, before it, none at all, and no convolution.
@pytest.mark.parametrize(
    "name", ["test_efficientnet", "test_resnet", "densenet121", "test_convnext", "test_vit"]
)
def test_folding_changes_no_logit(name: str) -> None:
    torch.manual_seed(0)
    network = Classifier(Architecture(name=name), 7)
    network.train()
    size = 160 if name == "test_vit" else 64
    network(torch.randn(4, 3, size, size) * 3 + 1)  # so that running means and variances say something
    network.eval()
    pictures = torch.randn(3, 3, size, size)
    with torch.inference_mode():
        assert torch.allclose(folded(network)(pictures), network(pictures), atol=1e-4)


def test_folding_leaves_no_normalisation_where_it_can_and_the_original_as_it_was() -> None:
    network = Classifier(Architecture(name="test_efficientnet"), 7).eval()
    ready = folded(network)
    assert not [m for m in ready.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
