"""Where mail leaves: peers, a smarthost, the line to the Internet."""

from __future__ import annotations

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

    name: HostLabel = Field(
        description="Short name, used for the route, its listener and its reports.", examples=["headoffice"]
    )
    domains: tuple[Fqdn, ...] = Field(
        min_length=1, description="Recipient domains routed to it.", examples=[["example.com"]]
    )
    zone: str = Field(description="The zone it is reached in.", examples=["wan"])
    relays: tuple[Address, ...] = Field(
        min_length=1,
        description="Addresses its mail comes from; only they reach its listener.",
        examples=[["198.51.100.25"]],
    )
    next_hop: Fqdn = Field(description="Host name its mail is sent to.", examples=["mx.example.com"])
    port: FilePort = Field(default=25, description="Port at the next hop.")
    listen: FilePort = Field(
        default=2525,
        description="Port of the listener kept for it on the MTA: a flood on port 25 must not reach it. "
        "25 only where its zone is not the Internet's.",
    )
    tls: Literal["verify", "dane", "fingerprint"] = Field(
        description="How the next hop proves itself: `verify` (certificate with its name from a trusted authority), "
        "`dane` (TLSA records, RFC 7672) or `fingerprint` (a key agreed on beforehand, `fingerprints`). There is no "
        "opportunistic choice: mail waits rather than travel in clear.",
        examples=["verify"],
    )
    fingerprints: tuple[Annotated[str, Field(pattern=r"^[0-9A-F]{2}(:[0-9A-F]{2}){31}$")], ...] = Field(
        default=(),
        description='With `tls = "fingerprint"`: SHA-256 of the next hop\'s public key (DER), upper-case pairs with colons; '
        "two while it changes its key.",
        examples=[
            [
                "3A:5F:0C:19:6E:2B:84:D7:90:11:C3:AE:52:F8:67:4D:BB:08:E1:36:7C:9A:25:D0:4F:83:16:EA:5B:70:C2:9D"
            ]
        ],
    )
    backup_mx: bool = Field(
        default=False,
        description="Whether its next hop is also this office's MX of last resort (MX 20). It must know the office's recipients: "
        "`./outpost peer OFFICE NAME` prints them with the rest of its side.",
    )
    lifetime: Duration | None = Field(
        default=None,
        description="How long mail waits for it before it returns to its sender; at most `link.queue_lifetime`, which it is by "
        "default. For a route whose mail is worthless late.",
        examples=["2d"],
    )
    concurrency: int = counted(
        4,
        "Messages on their way to it at the same time. One for a satellite or a modem: four that share a thin "
        "line all end late, and all of them begin again when it breaks.",
        most=10,
    )
    retry: Duration = Field(
        default=60,
        description="How often the next hop is looked at while mail waits for it. It costs one connection, no message; as soon as "
        "it answers, all that waits goes at once, whatever each message's own back-off is.",
        examples=["5m"],
    )
    large: Size | None = Field(
        default=None,
        description="Users' mail from this size on, and to this peer alone, waits for `large_hours`. The queue says so, and "
        "`./outpost queue --release` lets it go at once.",
        examples=["5MiB"],
    )
    large_hours: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$")] = Field(
        default="19:00-06:00",
        description="Hours (UTC) in which large mail crosses the line.",
        examples=["19:00-06:00"],
    )


class Smarthost(Part):
    """A relay that carries all Internet mail (`[smarthost]`); without it the MTA delivers by MX itself."""

    host: Fqdn = Field(description="Its host name.", examples=["relay.provider.example"])
    port: FilePort = Field(default=25, description="Its port; 465 means TLS from the first byte.")
    user: str = Field(
        default="",
        pattern=r"^[!-9;-~]*$",
        description="The login that it wants of the office (RFC 4954), if it does not go by address; the password is a "
        "secret: `./outpost secrets smarthost OFFICE`. It is said to a relay that has proven its name, and to no other.",
        examples=["site@provider.example"],
    )


class Link(Part):
    """The office's line to the Internet (`[link]`)."""

    rate_kbit: int = counted(
        1544, "Rate in kbit/s; the case study's T1 carries 1544.", least=64, most=100_000_000
    )
    shaped_percent: int = counted(
        90,
        "How much of it the MTA's mail may fill outwards; 0: no shaping. Below 100 the queue forms on the MTA, "
        "where names and peers go first, and not in the provider's modem: 1389 of 1544 kbit/s leave the others 155.",
        least=0,
        most=100,
    )
    queue_lifetime: Duration = lasting(
        "5d",
        "How long mail waits in the queue before it returns to its sender (RFC 5321, section 4.5.4.1: four to five "
        "days at least).",
    )
    delay_warning: Duration = lasting(
        "4h",
        "After this time a sender is told that a message still waits (RFC 3464, `Action: delayed`), once.",
    )
    retry_soonest: Duration = Field(
        default=30, description="First wait after an attempt that failed; each later one is twice as long."
    )
    retry_latest: Duration = lasting(
        "30m",
        "Longest wait between two attempts. A peer that answers again is noticed sooner (`retry` of the peer), and "
        "with one of the Internet's zone all that waits for the Internet.",
    )
