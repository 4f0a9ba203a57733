"""What language models cost: whose it is, what it costs, and how much is left."""

from collections.abc import Callable

from flask import Flask
from flask.testing import FlaskClient

from shared import usage
from shared.database import Database
from tests.api.driving import ONE_DATABASE, assert_problem
from tests.api.people import Person

pytestmark = ONE_DATABASE


def test_nothing_was_used_yet(client: FlaskClient) -> None:
    found = client.get("/v1/usage").get_json()
    assert (found["tokens"], found["cap"], found["cost"], found["items"]) == (0, None, 0.0, [])


def test_a_month_is_told_with_its_prices_and_its_cap(start: Callable[..., Flask], database: Database) -> None:
    client = start(prices='{"a": [2, 10.5]}', owner_tokens_a_month=9).test_client()
    usage.add(database, "", "a", input_tokens=1_000_000, output_tokens=100_000)
    found = client.get("/v1/usage").get_json()
    assert (found["tokens"], found["cap"], found["cost"]) == (1_100_000, 9, 3.05)
    assert found["items"] == [
        {"model": "a", "calls": 1, "input_tokens": 1_000_000, "output_tokens": 100_000, "cost": 3.05}
    ]
    usage.add(database, "", "b", input_tokens=1, output_tokens=1)
    assert client.get("/v1/usage").get_json()["cost"] is None


def test_nobody_sees_what_another_used(start: Callable[..., Flask], database: Database) -> None:
    app = start(auth="keys")
    anna, ben = Person(app, "anna"), Person(app, "ben")
    usage.add(database, "anna", "a", input_tokens=1, output_tokens=2)
    assert anna.client.get("/v1/usage").get_json()["tokens"] == 3
    assert ben.client.get("/v1/usage").get_json()["tokens"] == 0


def test_another_month_may_be_looked_at(client: FlaskClient, database: Database) -> None:
    usage.add(database, "", "a", input_tokens=1, output_tokens=2)
    month = client.get("/v1/usage").get_json()["month"]
    assert client.get(f"/v1/usage?month={month}").get_json()["tokens"] == 3
    assert client.get("/v1/usage?month=2020-01").get_json()["tokens"] == 0
    assert_problem(client.get("/v1/usage?month=2020-13"), 400, "invalid-request", "/month")
