from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from shared.catalog import PIPELINES
from tests.api.driving import ONE_DATABASE, assert_problem, post, write_model

pytestmark = ONE_DATABASE


def test_every_pipeline_is_listed_with_labels_in_every_language(client: FlaskClient) -> None:
    items = client.get("/v1/pipelines").get_json()["items"]
    assert [item["name"] for item in items] == list(PIPELINES)
    skin = items[0]
    assert skin["available"]
    assert {"code": "mel", "en": "Melanoma", "ko": "흑색종", "fr": "Mélanome", "colour": None} in skin[
        "labels"
    ]
    assert len(skin["sites"]) == 15
    assert [head["optional"] for head in skin["heads"]] == [False, True]
    assert skin["heads"][1]["labels"][1]["colour"] == "#00ffff"


@pytest.mark.parametrize("name", [name for name in PIPELINES if name != "skin"])
def test_a_pipeline_without_weights_says_how_to_train_them(client: FlaskClient, name: str) -> None:
    found = client.get(f"/v1/pipelines/{name}").get_json()
    assert (found["available"], found["card"]) == (False, None)
    assert found["train_command"] == f"make train PIPELINE={name} DATA=<folder>"
    assert "There are no trained weights" in found["reason"]
    assert_problem(client.get(f"/v1/pipelines/{name}/card"), 404, "not-found")


def test_a_pipeline_shows_its_card(client: FlaskClient) -> None:
    found = client.get("/v1/pipelines/skin").get_json()
    assert found["card"]["version"] == "test"
    assert client.get(found["urls"]["card"]).get_json() == found["card"]


def test_weights_that_come_or_go_are_noticed(client: FlaskClient, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "skin"
    (folder / "weights.safetensors").write_bytes(b"other weights")
    found = client.get("/v1/pipelines/skin").get_json()
    assert not found["available"]
    assert found["train_command"] == "make train PIPELINE=skin DATA=<folder>"
    assert_problem(post(client), 409, "pipeline-unavailable")
    (folder / "card.json").unlink()
    assert "no card.json" in client.get("/v1/pipelines/skin").get_json()["reason"]
    folder.joinpath("weights.safetensors").unlink()
    folder.rmdir()
    write_model(folder)
    assert client.get("/v1/pipelines/skin").get_json()["available"]


@pytest.mark.parametrize("name", ["tarot", "Skin", "é", "skin%00"])
def test_no_such_pipeline(client: FlaskClient, name: Any) -> None:
    assert_problem(client.get(f"/v1/pipelines/{name}"), 404, "not-found")
