from collections.abc import Callable

from flask import Flask
from flask.testing import FlaskClient

from tests.api.driving import ONE_DATABASE


@ONE_DATABASE
def test_nobody_sees_a_question_by_default(client: FlaskClient) -> None:
    about = client.get("/v1/about").get_json()
    assert about["language_model"] is None
    assert about["auth"] == "open"
    assert about["limits"]["image_bytes"] == 20 * 2**20


@ONE_DATABASE
def test_the_language_model_is_named_with_its_host_and_without_secrets(start: Callable[..., Flask]) -> None:
    app = start(
        answers="openai", openai_api_key="sk-secret", openai_model="m-1",
        openai_base_url="https://user:password@llm.example:8443/v1?key=secret",
    )  # fmt: skip
    response = app.test_client().get("/v1/about")
    assert response.get_json()["language_model"] == {"name": "m-1", "host": "llm.example"}
    assert "secret" not in response.text
    assert "password" not in response.text
