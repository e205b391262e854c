"""What a value in the office file may be: names, addresses, networks, durations; and the base of every table."""

from __future__ import annotations

import re
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network
IPInterface = IPv4Interface | IPv6Interface

_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_LOCAL_PART = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")


def _fqdn(value: str) -> str:
    labels = value.split(".")
    if len(value) > 253 or len(labels) < 2 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("not a fully qualified domain name in lower-case A-labels (RFC 1123, section 2.1)")
    if labels[-1].isdigit():
        raise ValueError("not a fully qualified domain name: it ends in a number, like an address")
    return value


def _label(value: str) -> str:
    if not _LABEL.fullmatch(value):
        raise ValueError(
            "not a host label: lower-case letters, digits and inner hyphens, 63 at most (RFC 1123)"
        )
    return value


def _mail_address(value: str) -> str:
    local, _, domain = value.rpartition("@")
    if not _LOCAL_PART.fullmatch(local) or ".." in local:
        raise ValueError(
            "not a mailbox address: its local part must be a lower-case dot-atom (RFC 5321, section 4.1.2)"
        )
    _fqdn(domain)
    return value


def _proxy(value: str) -> str:
    if value and not re.fullmatch(r"http://[A-Za-z0-9.:\[\]-]+(:\d{1,5})?/?", value):
        raise ValueError("not the address of an HTTP proxy, http://HOST:PORT")
    return value


def _to_address(value: object) -> object:
    try:
        return ip_address(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("not an IP address") from None


def _to_network(value: object) -> object:
    try:
        return ip_network(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("not an IP network; the bits behind its prefix must be zero") from None


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _to_seconds(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d+)([smhd])", value)
    if not match:
        raise ValueError("not a duration: a number with s, m, h or d, like 90s or 30d")
    return int(match[1]) * _UNITS[match[2]]


Fqdn = Annotated[str, AfterValidator(_fqdn)]
HostLabel = Annotated[str, AfterValidator(_label)]
MailAddress = Annotated[str, AfterValidator(_mail_address)]
Proxy = Annotated[str, AfterValidator(_proxy)]
Address = Annotated[IPAddress, BeforeValidator(_to_address)]
Network = Annotated[IPNetwork, BeforeValidator(_to_network)]
FilePort = Annotated[int, Field(ge=1, le=65535)]
Duration = Annotated[int, BeforeValidator(_to_seconds), Field(ge=1)]
"""Seconds; the file may say `90s`, `15m`, `6h` or `30d`."""


class Part(BaseModel):
    """Base of every table in the office file: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")
