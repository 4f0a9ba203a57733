"""Where webhooks may not lead, in all its spellings, and that it holds at connect."""

import socket
from collections.abc import Iterator
from typing import Any

import httpcore
import pytest

from api import outbound
from api.outbound import Allowed, Refused, Target
from tests.api.receiver import Receiver, receiving

NOBODY = Allowed("")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as told:
        yield told


def names(monkeypatch: pytest.MonkeyPatch, **known: list[str]) -> list[str]:
    """A name service that knows these names, and gives one answer after the other; what it was asked."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def answer(host: str, port: int, *args: Any, **more: Any) -> Any:
        key = host.replace(".", "_")
        if key not in known:
            return real(host, port, *args, **more)
        asked.append(host)
        address = known[key].pop(0) if len(known[key]) > 1 else known[key][0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return asked


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0x7f.1", "017700000001", "0", "0.0.0.0",
        "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "192.0.0.1", "198.18.0.1",
        "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "localhost", "LOCALHOST", "localhost.",
        "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[fe80::1]", "[fc00::1]", "[fd12::1]", "[ff02::1]",
        "[2002:7f00:1::]", "[64:ff9b::7f00:1]", "[2001:0:53aa:64c:0:fbff:80ff:fffe]", "[::127.0.0.1]",
    ],
)  # fmt: skip
def test_no_spelling_of_an_address_within_is_accepted(host: str) -> None:
    with pytest.raises(Refused):
        outbound.check(outbound.parse(f"https://{host}/hook", NOBODY), NOBODY)


@pytest.mark.parametrize(
    "url",
    [
        "", "hook", "//example.org/", "ftp://example.org/", "file:///etc/passwd", "gopher://example.org/",
        "http://example.org/", "https://", "https:///x", "https://a@example.org/", "https://a:b@example.org/",
        "https://example.org\\@127.0.0.1/", "https://exa mple.org/", "https://example.org/\r\nX: y", "https://é.org/",
        "https://example.org:0/", "https://example.org:99999/", "https://example.org:x/", "https://[::1/",
        "https://ex%61mple.org/", "https://-x.org/", "https://example.org/" + "x" * 2000, "https://a\x00b/",
        "javascript:alert(1)", "HTTPS:example.org",
    ],
)  # fmt: skip
def test_what_is_no_plain_https_url_is_refused(url: str) -> None:
    with pytest.raises(Refused):
        outbound.parse(url, NOBODY)


def test_a_url_is_taken_apart_once() -> None:
    assert outbound.parse("https://Example.org/a?b=c#d", NOBODY) == Target(
        "https", "example.org", 443, "/a?b=c"
    )
    assert outbound.parse("https://example.org.:8443", NOBODY) == Target("https", "example.org", 8443, "/")
    assert outbound.parse("https://[2606:4700::1]:1/x", NOBODY) == Target("https", "2606:4700::1", 1, "/x")


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:4700::1111", "::ffff:93.184.215.14"])
def test_public_addresses_pass(address: str) -> None:
    assert NOBODY.passes("x", address)


def test_what_is_listed_may_be_reached_though_it_is_not_public() -> None:
    allowed = Allowed("10.1.0.0/16, inside.example, [::1]")
    assert allowed.passes("x", "10.1.2.3")
    assert not allowed.passes("x", "10.2.2.3")
    assert allowed.passes("INSIDE.example", "192.168.0.9")
    assert allowed.passes("::1", "::1")
    assert not allowed.passes("inside.example.org", "192.168.0.9")
    assert outbound.parse("http://inside.example/", allowed).port == 80


def test_a_name_that_points_inwards_is_refused_at_submit(monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, evil_example=["10.0.0.1"])
    with pytest.raises(Refused):
        outbound.check(outbound.parse("https://evil.example/", NOBODY), NOBODY)


def test_a_name_that_stands_for_nothing_now_may_do_so_later() -> None:
    outbound.check(outbound.parse("https://nothing.invalid/", NOBODY), NOBODY)


def test_a_name_that_is_pointed_elsewhere_after_the_check_is_not_connected_to(
    monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    names(monkeypatch, rebinding_example=["93.184.215.14", "127.0.0.1"])
    target = Target("http", "rebinding.example", receiver.port, "/")
    outbound.check(target, NOBODY)
    with pytest.raises(Refused):
        outbound.post(target, NOBODY, {}, b"secret", 5)
    assert receiver.came == []


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(
    monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    asked = names(monkeypatch, inside_example=["127.0.0.1"])
    target = Target("http", "inside.example", receiver.port, "/x?y=z")
    assert outbound.post(target, Allowed("inside.example"), {"webhook-id": "1"}, b"body", 5) == 204
    assert asked == ["inside.example"]  # once: there is no second look that could see another address
    ((path, headers, body),) = receiver.came
    assert (path, headers["host"], headers["webhook-id"], body) == (
        "/x?y=z", f"inside.example:{receiver.port}", "1", b"body",
    )  # fmt: skip


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.script, receiver.location = [302], f"http://127.0.0.1:{receiver.port}/elsewhere"
    target = outbound.parse(receiver.url, allowed := Allowed("127.0.0.1"))
    assert outbound.post(target, allowed, {}, b"", 5) == 302
    assert len(receiver.came) == 1


@pytest.mark.parametrize("way", ["stall", "drip"])
def test_a_receiver_that_takes_its_time_gets_no_more_than_the_limit(receiver: Receiver, way: str) -> None:
    receiver.script = [way]
    target = outbound.parse(receiver.url, allowed := Allowed("127.0.0.1"))
    with pytest.raises(
        (httpcore.TimeoutException, httpcore.ProtocolError)
    ):  # without the limit it never ends
        outbound.post(target, allowed, {}, b"", 0.4)


def test_a_list_that_makes_no_sense_is_said() -> None:
    with pytest.raises(Exception, match="MEDQ_WEBHOOK_ALLOW"):
        Allowed("http://x/")
