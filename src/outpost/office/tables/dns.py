"""The office's own zones, and how long their keys live."""

from __future__ import annotations

from pydantic import Field

from outpost.office.tables.values import Duration, Network, Part


class Dns(Part):
    """The office's zones (`[dns]`)."""

    reverse: tuple[Network, ...] = Field(
        default=(),
        description="Networks whose reverse zones are delegated to the office; prefixes end on an octet (IPv4) or a "
        "nibble (IPv6), as the delegation does.",
        examples=[["192.0.2.0/24", "2001:db8:40::/48"]],
    )
    ttl: Duration = Field(
        default=3600,
        description="How long others may keep a record. Every rollover waits two of them before it goes on.",
        examples=["1h"],
    )
    signature_lifetime: Duration = Field(
        default=14 * 86400,
        description="How long a DNSSEC signature is valid; renewed at half of it, so the zone outlasts that long "
        "without its primary (14d: a week).",
        examples=["14d"],
    )
    zsk_lifetime: Duration = Field(
        default=30 * 86400,
        description="Age at which the zone-signing key rolls, by itself (RFC 6781, section 4.1.1).",
        examples=["30d"],
    )
    ksk_lifetime: Duration = Field(
        default=365 * 86400,
        description="Age at which the key that the parent's DS names rolls. It goes on by itself once the parent shows "
        "the new DS; a parent that does not read CDS (RFC 8078) must be given it by hand.",
        examples=["365d"],
    )
    propagation: Duration = Field(
        default=900,
        description="Time for a change to reach every name server of the office, with a margin.",
        examples=["15m"],
    )
    parent_propagation: Duration = Field(
        default=86400,
        description="Time the parent's servers and caches may still show the old DS after the new one was seen; "
        "at least the TTL of the DS record there.",
        examples=["1d"],
    )
    parent_interval: Duration = Field(
        default=3600,
        description="How often the parent is asked for the new DS while a key rolls.",
        examples=["1h"],
    )
    dkim_lifetime: Duration = Field(
        default=180 * 86400,
        description="Age at which `outpost rotate due` begins a new pair of DKIM keys.",
        examples=["180d"],
    )
    dkim_retention: Duration = Field(
        default=14 * 86400,
        description="How long an old DKIM key stays published after the last signature with it: at least `link.queue_lifetime`, "
        "for mail that waited is checked when it arrives. As long it then stands revoked (empty `p=`, RFC 6376, section 3.6.1).",
        examples=["14d"],
    )
