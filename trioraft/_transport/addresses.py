"""Addresses as people write them: `ws://host:port`."""

from __future__ import annotations

import re
from ipaddress import IPv6Address

from attrs import frozen

_ADDRESS = re.compile(r"ws://(?:\[(?P<ipv6>[^\]]+)\]|(?P<name>[\w.-]+)):(?P<port>[0-9]{1,5})")


@frozen
class Address:
    """A host (a name, an IPv4 or an IPv6 address without brackets) and a TCP port, 0 to 65535."""

    host: str
    port: int

    @property
    def netloc(self) -> str:
        """`host:port`, as it stands in a URL and in a `Host` header."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"ws://{self.netloc}"


def parse_address(address: str) -> Address:
    """Read `ws://host:port`; an IPv6 host stands in brackets.

    Raises:
        ValueError: it is anything else; the message quotes it.
    """
    if address.startswith("wss://"):
        raise ValueError(f"bad address {address!r}: TLS (wss://) is not there yet, use ws://")
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise ValueError(f"bad address {address!r}: it must look like ws://host:port")
    try:
        host = str(IPv6Address(match["ipv6"])) if match["ipv6"] else match["name"]
        host.encode("idna")  # as name look-up will; refuses empty labels and endless ones
    except ValueError as error:
        raise ValueError(f"bad address {address!r}: {error}") from None
    port = int(match["port"])
    if port > 65535:
        raise ValueError(f"bad address {address!r}: the port is above 65535")
    return Address(host, port)
