"""Keys, scopes, sessions and limits, request by request."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from shared import keys
from tests.api.driving import ONE_DATABASE, assert_problem, post, submitted
from tests.api.people import Person, with_key
from tests.servers import Redis

pytestmark = ONE_DATABASE
PAGE = {"Origin": "http://localhost"}


@pytest.fixture
def app(start: Callable[..., Flask]) -> Flask:
    return start(auth="keys")


@pytest.fixture
def browser(app: Flask) -> FlaskClient:
    return app.test_client()


def sign_in(browser: FlaskClient, key: str, **headers: str) -> Any:
    return browser.post("/v1/session", json={"key": key}, headers=PAGE | headers)


# Keys


def test_a_key_opens_what_its_scopes_say(app: Flask) -> None:
    reader, sender = Person(app, "lab", ("read",)), Person(app, "lab", ("submit",))
    assert_problem(post(reader.client), 403, "forbidden")
    job_id = post(sender.client).get_json()["id"]
    assert reader.client.get(f"/v1/jobs/{job_id}").status_code == 200
    assert_problem(sender.client.get(f"/v1/jobs/{job_id}"), 403, "forbidden")


def test_counts_of_everybodys_jobs_are_for_administrators(app: Flask) -> None:
    assert Person(app, "lab", ("admin",)).client.get("/metrics").status_code == 200
    assert_problem(Person(app, "lab", ("read", "submit")).client.get("/metrics"), 403, "forbidden")


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic mq_x", "mq_x", "Bearer mqs_x", "Bearer \x7f"]
)
def test_another_header_opens_nothing(app: Flask, header: str) -> None:
    response = app.test_client().get("/v1/jobs", headers={"Authorization": header})
    assert_problem(response, 401, "unauthorized")


def test_a_wrong_header_is_not_helped_by_a_cookie(app: Flask, browser: FlaskClient) -> None:
    sign_in(browser, Person(app, "lab").key)
    assert browser.get("/v1/jobs").status_code == 200
    assert browser.get("/v1/jobs", headers={"Authorization": "Bearer mq_no"}).status_code == 401


def test_a_session_is_no_key(app: Flask, browser: FlaskClient) -> None:
    sign_in(browser, Person(app, "lab").key)
    cookie = browser.get_cookie("medq_session")
    assert cookie
    assert with_key(app, cookie.value).get("/v1/jobs").status_code == 401


def test_in_open_mode_nobody_is_asked(start: Callable[..., Flask]) -> None:
    client = start().test_client()
    assert submitted(client)["id"]
    assert client.get("/v1/session").get_json() == {
        "auth": "open",
        "owner": "",
        "scopes": ["submit", "read", "review", "admin"],
        "expires_at": None,
    }
    signed_in = sign_in(client, "mq_anything")
    assert (signed_in.status_code, signed_in.headers.get("Set-Cookie")) == (200, None)


def test_what_was_made_without_a_key_is_nobodys_once_keys_are_asked(start: Callable[..., Flask]) -> None:
    job_id = submitted(start().test_client())["id"]
    person = Person(start(auth="keys"), "lab")
    assert_problem(person.client.get(f"/v1/jobs/{job_id}"), 404, "not-found")


# Sessions


def test_signing_in_gives_a_cookie_that_scripts_cannot_read(app: Flask, browser: FlaskClient) -> None:
    person = Person(app, "lab", ("read", "submit"))
    response = sign_in(browser, person.key)
    found = response.get_json()
    assert (found["auth"], found["owner"], found["scopes"]) == ("keys", "lab", ["submit", "read"])
    assert found["expires_at"]
    cookie = response.headers["Set-Cookie"]
    for attribute in ("HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"):
        assert attribute in cookie
    assert person.key not in cookie
    assert browser.get("/v1/session").get_json() == found


@pytest.mark.parametrize(("host", "secure"), [("localhost:8000", False), ("medq.example.org", True)])
def test_beyond_loopback_the_cookie_goes_over_tls_only(
    start: Callable[..., Flask], host: str, secure: bool
) -> None:
    app = start(auth="keys", hosts="localhost,medq.example.org")
    headers = {"Host": host, "Origin": f"http://{host}"}
    response = sign_in(app.test_client(), Person(app, "lab").key, **headers)
    assert ("Secure" in response.headers["Set-Cookie"]) is secure


@pytest.mark.parametrize("key", ["", "mq_" + "x" * 43, "mqs_" + "x" * 43, "x"])
def test_a_wrong_key_signs_nobody_in(browser: FlaskClient, key: str) -> None:
    response = sign_in(browser, key)
    assert_problem(response, 401, "unauthorized")
    assert "Set-Cookie" not in response.headers


def test_a_page_that_is_signed_in_may_write(app: Flask, browser: FlaskClient) -> None:
    sign_in(browser, Person(app, "lab").key)
    assert post(browser, headers=PAGE).status_code == 202
    assert post(browser, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 202


@pytest.mark.parametrize(
    "headers", [{}, {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_another_page_may_not_write_with_the_cookie(
    app: Flask, browser: FlaskClient, headers: dict[str, str]
) -> None:
    sign_in(browser, Person(app, "lab").key)
    assert_problem(post(browser, headers=headers), 403, "forbidden")


@pytest.mark.parametrize("auth", ["open", "keys"])
def test_another_page_may_not_even_read(start: Callable[..., Flask], auth: str) -> None:
    client = Person(start(auth=auth), "lab").client
    assert client.get("/v1/jobs").status_code == 200
    assert_problem(client.get("/v1/jobs", headers={"Origin": "https://evil.example"}), 403, "forbidden")


def test_signing_out_ends_the_session_at_once(app: Flask, browser: FlaskClient) -> None:
    sign_in(browser, Person(app, "lab").key)
    cookie = browser.get_cookie("medq_session")
    assert cookie
    assert browser.delete("/v1/session", headers=PAGE).status_code == 204
    assert browser.get_cookie("medq_session") is None
    browser.set_cookie("medq_session", cookie.value)
    assert_problem(browser.get("/v1/session"), 401, "unauthorized")


def test_another_page_cannot_sign_anybody_in_or_out(app: Flask, browser: FlaskClient) -> None:
    key = Person(app, "lab").key
    evil = {"Origin": "https://evil.example"}
    assert_problem(sign_in(browser, key, **evil), 403, "forbidden")
    assert_problem(browser.delete("/v1/session", headers=evil), 403, "forbidden")


# Limits


def spend(client: FlaskClient, number: int) -> list[int]:
    return [client.get("/v1/jobs").status_code for _ in range(number)]


def test_a_key_that_asks_too_often_is_told_when_to_come_back(start: Callable[..., Flask]) -> None:
    app = start(auth="keys", key_per_minute=3)
    person, other = Person(app, "lab"), Person(app, "lab")
    before = time.time()
    assert spend(person.client, 3) == [200] * 3
    refused = person.client.get("/v1/jobs")
    assert_problem(refused, 429, "too-many-requests")
    # The first request falls out of the window a minute after it was made: that is when the next one passes.
    assert 60 - (time.time() - before) - 1 <= int(refused.headers["Retry-After"]) <= 61
    assert spend(other.client, 1) == [200]


def test_retry_after_is_true(start: Callable[..., Flask], broker: Redis) -> None:
    app = start(auth="keys", key_per_minute=2)
    person = Person(app, "lab")
    assert spend(person.client, 2) == [200, 200]
    asked = time.time()
    retry_after_s = int(person.client.get("/v1/jobs").headers["Retry-After"])
    answered = time.time()
    with broker.client() as client:
        (window,) = client.keys("*LIMITS*")
        oldest = float(client.lrange(window, -1, -1)[0])
    assert oldest + 60 - answered <= retry_after_s <= oldest + 60 - asked + 2


def test_a_key_may_have_a_limit_of_its_own(start: Callable[..., Flask]) -> None:
    app = start(auth="keys", key_per_minute=2)
    _, key = keys.create(app.extensions["medq"].db, "lab", ["read"], per_minute=4)
    assert spend(with_key(app, key), 5) == [200, 200, 200, 200, 429]


def test_two_processes_count_together(start: Callable[..., Flask]) -> None:
    apps = [start(auth="keys", key_per_minute=4) for _ in range(2)]
    person = Person(apps[0], "lab")
    assert spend(person.client, 2) + spend(with_key(apps[1], person.key), 3) == [200] * 4 + [429]


def test_a_dead_broker_stops_no_submit_and_limits_go_on_in_the_process(
    start: Callable[..., Flask], broker: Redis
) -> None:
    app = start(auth="keys", key_per_minute=3)
    person = Person(app, "lab")
    broker.kill()
    assert app.test_client().get("/v1/pipelines").status_code == 200
    assert [post(person.client).status_code for _ in range(4)] == [202, 202, 202, 429]
    assert app.test_client().get("/v1/pipelines").status_code == 200
