"""What the hosts take from servers elsewhere: answers about names, packages, the time."""

from typing import Annotated

from pydantic import Field

from outpost.office.tables.values import Address, MirrorUrl, Part, Proxy, Server


class Resolver(Part):
    """How the hosts' validating resolvers find names (`[resolver]`)."""

    forwarders: tuple[Address, ...] = Field(default=(), examples=[["198.51.100.53"]])
    """Resolvers to which all queries are forwarded. Empty: the hosts resolve from the root, which needs port 53 to
    the Internet."""
    trust_anchor: tuple[
        Annotated[str, Field(pattern=r"^\. IN DS \d{1,5} \d{1,3} \d{1,3} [0-9A-Fa-f]{40,128}$")], ...
    ] = Field(
        default=(),
        examples=[[". IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D"]],
    )
    """DS records of the root key (presentation format); empty: the Internet's, from Debian's dns-root-data."""


class Archive(Part):
    """Where packages come from (`[archive]`)."""

    mirror: MirrorUrl = Field(
        default="http://deb.debian.org/debian", examples=["http://deb.debian.org/debian"]
    )
    """Debian mirror."""
    security_mirror: MirrorUrl = Field(
        default="http://deb.debian.org/debian-security", examples=["http://deb.debian.org/debian-security"]
    )
    """Debian security mirror."""
    proxy: Proxy = Field(default="", examples=["http://192.0.2.9:3142"])
    """HTTP proxy for apt; needed by hosts that must not reach the Internet themselves (the store)."""


class Time(Part):
    """Clock sources (`[time]`)."""

    servers: tuple[Server, ...] = Field(
        default=("0.debian.pool.ntp.org", "1.debian.pool.ntp.org", "2.debian.pool.ntp.org"),
        min_length=1,
        examples=[["ntp.example.com", "192.0.2.123"]],
    )
    """NTP servers, names or addresses; at least three let a wrong one be outvoted."""
