"""The office's own zones, and how long their keys live."""

from pydantic import Field

from outpost.office.tables.values import Duration, Network, Part, lasting


class Dns(Part):
    """The office's zones (`[dns]`)."""

    reverse: tuple[Network, ...] = Field(default=(), examples=[["192.0.2.0/24", "2001:db8:40::/48"]])
    """Networks whose reverse zones are delegated to the office; prefixes end on an octet (IPv4) or a nibble (IPv6),
    as the delegation does."""
    ttl: Duration = lasting("1h")
    """TTL: how long others may cache a record. Every rollover waits two TTLs before it goes on."""
    signature_lifetime: Duration = lasting("14d")
    """How long a DNSSEC signature is valid; renewed at half of it, so the zone outlasts that long without its primary
    (14d: a week)."""
    zsk_lifetime: Duration = lasting("30d")
    """Age at which the zone-signing key rolls, by itself (RFC 6781, section 4.1.1)."""
    ksk_lifetime: Duration = lasting("365d")
    """Age at which the key-signing key rolls. The rollover goes on once the parent shows the new DS. If your parent
    zone does not read CDS (RFC 8078), enter the DS there by hand."""
    propagation: Duration = lasting("15m")
    """Time for a change to reach every name server of the office, with a margin."""
    parent_propagation: Duration = lasting("1d")
    """Time the parent's servers and caches may still show the old DS after the new one was seen; at least the TTL of
    the DS record there."""
    parent_interval: Duration = lasting("1h")
    """How often the parent is asked for the new DS while a key rolls."""
    dkim_lifetime: Duration = lasting("180d")
    """Age at which `./outpost rotate due` begins a new pair of DKIM keys."""
    dkim_retention: Duration = lasting("14d")
    """How long an old DKIM key stays published after the last signature with it: at least `link.queue_lifetime`,
    because mail that waited is verified when it arrives. After that it stays revoked for the same time (empty `p=`,
    RFC 6376, section 3.6.1)."""
