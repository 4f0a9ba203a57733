from collections.abc import Callable

from flask import Flask
from flask.testing import FlaskClient

from tests.api.driving import ONE_DATABASE


@ONE_DATABASE
def test_nobody_sees_a_question_by_default(client: FlaskClient) -> None:
    about = client.get("/v1/about").get_json()
    assert about["language_models"] == []
    assert about["auth"] == "open"
    assert about["limits"]["image_bytes"] == 20 * 2**20


@ONE_DATABASE
def test_language_models_are_named_with_their_hosts_and_without_secrets(start: Callable[..., Flask]) -> None:
    app = start(
        answers="openai", openai_api_key="sk-secret", openai_model="m-1",
        openai_base_url="https://user:password@llm.example:8443/v1?key=secret",
        fallback_model="m-2", fallback_base_url="http://127.0.0.1:8001/v1", fallback_api_key="sk-secret",
    )  # fmt: skip
    response = app.test_client().get("/v1/about")
    assert response.get_json()["language_models"] == [
        {"name": "m-1", "host": "llm.example"},
        {"name": "m-2", "host": "127.0.0.1"},
    ]
    assert "secret" not in response.text
    assert "password" not in response.text
