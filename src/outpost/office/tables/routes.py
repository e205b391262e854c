"""Where mail leaves: peers, a smarthost, the line to the Internet."""

from typing import Annotated, Literal

from pydantic import Field

from outpost.office.tables.values import (
    Address,
    Duration,
    FilePort,
    Fqdn,
    HostLabel,
    Part,
    Size,
    counted,
    lasting,
)


class Peer(Part):
    """Another mail system with a route and listener of its own (`[[peers]]`): head office, the client."""

    name: HostLabel = Field(examples=["headoffice"])
    """Short name, used for the route, its listener and its reports."""
    domains: tuple[Fqdn, ...] = Field(min_length=1, examples=[["example.com"]])
    """Recipient domains routed to it."""
    zone: str = Field(description="The zone it is reached in.", examples=["wan"])
    relays: tuple[Address, ...] = Field(min_length=1, examples=[["198.51.100.25"]])
    """Addresses its mail comes from; only they reach its listener."""
    next_hop: Fqdn = Field(description="Host name its mail is sent to.", examples=["mx.example.com"])
    port: FilePort = Field(default=25, description="Port at the next hop.")
    listen: FilePort = 2525
    """Port of the peer's own listener on the MTA, so that a flood on port 25 does not reach it. 25 is allowed only
    where its zone is not the Internet's."""
    tls: Literal["verify", "dane", "fingerprint"] = Field(examples=["verify"])
    """How the next hop is authenticated: `verify` (a certificate with its name from a trusted authority), `dane`
    (TLSA records, RFC 7672) or `fingerprint` (a key agreed on before, see `fingerprints`). TLS is always mandatory:
    mail waits rather than travel in clear text."""
    fingerprints: tuple[Annotated[str, Field(pattern=r"^[0-9A-F]{2}(:[0-9A-F]{2}){31}$")], ...] = Field(
        default=(),
        examples=[
            [
                "3A:5F:0C:19:6E:2B:84:D7:90:11:C3:AE:52:F8:67:4D:BB:08:E1:36:7C:9A:25:D0:4F:83:16:EA:5B:70:C2:9D"
            ]
        ],
    )
    """With `tls = "fingerprint"`: SHA-256 of the next hop's public key (DER), upper-case pairs with colons; two while
    it changes its key."""
    backup_mx: bool = False
    """Whether its next hop is also this office's MX of last resort (MX 20). It must know the office's recipients:
    `./outpost peer OFFICE NAME` prints them with the rest of its side."""
    lifetime: Duration | None = Field(default=None, examples=["2d"])
    """How long mail waits for it before it bounces; `link.queue_lifetime` by default and at most. Shorten it for a
    route whose mail is worthless when it is late."""
    concurrency: int = counted(4, most=10)
    """Simultaneous deliveries to it. Choose 1 for a satellite link or a modem: four that share a thin line all end
    late, and all start again when it breaks."""
    retry: Duration = Field(default=60, examples=["5m"])
    """How often the MTA probes the next hop while mail waits for it: one connection, no message. As soon as it
    answers, all waiting mail is sent, whatever each message's own back-off is."""
    large: Size | None = Field(default=None, examples=["5MiB"])
    """Users' mail of at least this size, to this peer alone, waits for `large_hours`. `./outpost queue` shows it, and
    `--release` sends it at once."""
    large_hours: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$")] = Field(
        default="19:00-06:00", examples=["19:00-06:00"]
    )
    """Hours (UTC) in which large mail is sent."""


class Smarthost(Part):
    """A relay that carries all Internet mail (`[smarthost]`); without it the MTA delivers by MX itself."""

    host: Fqdn = Field(description="Its host name.", examples=["relay.provider.example"])
    port: FilePort = Field(default=25, description="Its port; 465 means TLS from the first byte.")
    user: str = Field(default="", pattern=r"^[!-9;-~]*$", examples=["site@provider.example"])
    """The office's login at the smarthost (RFC 4954), if it needs one. The password is a secret: `./outpost secrets
    smarthost OFFICE`. It is sent only to a server whose certificate was verified."""


class Link(Part):
    """The office's line to the Internet (`[link]`)."""

    rate_kbit: int = counted(1544, least=64, most=100_000_000)
    """Rate in kbit/s; the case study's T1 carries 1544."""
    shaped_percent: int = counted(90, least=0, most=100)
    """Share of `rate_kbit` that outgoing mail of the MTA may use; 0: no limit. Below 100 the queue forms on the MTA,
    where DNS and peers have priority, and not in the provider's modem: 1389 of 1544 kbit/s leave 155 for all else."""
    queue_lifetime: Duration = lasting("5d")
    """How long mail waits in the queue before it bounces (RFC 5321, section 4.5.4.1: at least four to five days)."""
    delay_warning: Duration = lasting("4h")
    """After this time the sender gets one notice that the message is still queued (RFC 3464, `Action: delayed`)."""
    retry_soonest: Duration = 30
    """Wait after the first failed attempt; each later wait is twice as long."""
    retry_latest: Duration = lasting("30m")
    """Longest wait between two attempts. A peer that answers again is found sooner (its `retry`); a peer in the
    Internet's zone then also starts the mail that waits for the Internet."""
