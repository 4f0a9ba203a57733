"""Requests to addresses that strangers name: each name is resolved once, checked, and only then connected to.

So neither a name that points inwards, nor one that is pointed elsewhere between check and connect (DNS rebinding), nor
a redirect, nor an address in decimal, octal or IPv6 clothes reaches what is not public.
"""

import re
import socket
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

import httpcore

from shared.errors import SettingsError

LONGEST_URL = 2000  # characters
HOST = re.compile(r"(?!-)[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")
NAT64 = IPv6Network("64:ff9b::/96")
LAST_32 = 2**32 - 1


class Refused(Exception):
    """The address is not one that this server may be sent to."""


@dataclass(frozen=True)
class Target:
    """Where a URL leads, in the parts that are connected to: nothing parses it a second time."""

    scheme: str
    host: str  # without an IPv6 address's brackets
    port: int
    path: str  # with the query


class Allowed:
    """What MEDQ_WEBHOOK_ALLOW lists: names, addresses and networks that may be reached though they are not public."""

    def __init__(self, listed: str) -> None:
        self.names: set[str] = set()
        self.networks = []
        for item in filter(None, (part.strip().lower() for part in listed.split(","))):
            try:
                self.networks.append(ip_network(item.strip("[]"), strict=False))
            except ValueError:
                if not HOST.fullmatch(item):
                    raise SettingsError(
                        f"MEDQ_WEBHOOK_ALLOW: {item!r} is neither a name nor a network"
                    ) from None
                self.names.add(item)

    def passes(self, host: str, address: str) -> bool:
        found = plain(address)
        return host.lower() in self.names or public(found) or any(found in net for net in self.networks)

    def lists(self, host: str) -> bool:
        """Whether somebody decided about this very host, so that it may go without TLS."""
        try:
            return any(plain(host) in net for net in self.networks)
        except ValueError:
            return host.lower() in self.names


def parse(url: str, allowed: Allowed) -> Target:
    """Raises: Refused, with a sentence for whoever gave the URL"""
    if len(url) > LONGEST_URL or not url.isascii() or not re.fullmatch(r"[!-~]+", url) or "\\" in url:
        raise Refused(f"must be an ASCII URL of at most {LONGEST_URL:,} characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Refused("is not a URL") from None
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise Refused("must begin with https://")
    if "@" in parts.netloc:
        raise Refused("must not hold a name or password")
    bare = parts.netloc.rpartition(":")[0] if port is not None else parts.netloc.rstrip(":")
    if not HOST.fullmatch(bare) or port == 0:
        raise Refused("names no host that can be reached")
    host = bare.strip("[]").lower().rstrip(".")
    if parts.scheme == "http" and not allowed.lists(host):
        raise Refused("must begin with https://; without TLS only hosts of MEDQ_WEBHOOK_ALLOW are written to")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port or (443 if parts.scheme == "https" else 80), path)


def check(target: Target, allowed: Allowed) -> None:
    """At submit: refuse what is known to lead inwards. A name that cannot be resolved now may be later.

    Raises: Refused
    """
    try:
        addresses(target.host, target.port, allowed)
    except OSError:
        return


def addresses(host: str, port: int, allowed: Allowed) -> list[str]:
    """What a name stands for at this moment; one bad address among them condemns all.

    Raises: Refused, OSError when it stands for nothing
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    literal = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not literal or not all(allowed.passes(host, address) for address in literal):
        raise Refused("leads to an address that is not public")
    return literal


def plain(address: str) -> IPv4Address | IPv6Address:
    """The address that is meant, out of IPv6 forms that carry an IPv4 one."""
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped:
            return found.ipv4_mapped
        if found.sixtofour:
            return found.sixtofour
        if found in NAT64:
            return IPv4Address(int(found) & LAST_32)
    return found


def public(address: IPv4Address | IPv6Address) -> bool:
    teredo = isinstance(address, IPv6Address) and address.teredo is not None
    return address.is_global and not address.is_multicast and not address.is_reserved and not teredo


def post(target: Target, allowed: Allowed, headers: dict[str, str], body: bytes, limit_s: float) -> int:
    """Send one request, all of it within `limit_s`; the answer's status. Redirects are an answer like others.

    Raises: Refused, OSError, httpcore's errors
    """
    named = f"[{target.host}]" if ":" in target.host else target.host
    url = httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
    sent = {"Host": f"{named}:{target.port}", "Content-Length": str(len(body))} | headers
    guard = _Guard(allowed, time.monotonic() + limit_s)
    context = ssl.create_default_context() if target.scheme == "https" else None
    with (
        httpcore.ConnectionPool(ssl_context=context, network_backend=guard) as pool,
        pool.stream("POST", url, headers=list(sent.items()), content=body) as response,
    ):
        return int(response.status)


class _Guard(httpcore.NetworkBackend):
    """Connects to checked addresses only, and to nothing once the time is up."""

    def __init__(self, allowed: Allowed, deadline: float) -> None:
        self._allowed, self._deadline = allowed, deadline
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        error: Exception = httpcore.ConnectError("no address")
        for address in addresses(host, port, self._allowed):
            try:
                made = self._sockets.connect_tcp(address, port, timeout=_left(self._deadline))
                return _Timed(made, self._deadline)
            except httpcore.ConnectError as failed:
                error = failed
        raise error


class _Timed(httpcore.NetworkStream):
    """A stream whose every step ends with the whole: a receiver that sends a byte a second gains nothing."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: float) -> None:
        self._inner, self._deadline = inner, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _left(self._deadline))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        secured = self._inner.start_tls(ssl_context, server_hostname, _left(self._deadline))
        return _Timed(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the time is up")
    return left
