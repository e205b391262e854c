"""Sizes and counts."""

from __future__ import annotations

from pydantic import ByteSize, Field

from outpost.office.tables.values import Duration, Part, Size


class Limits(Part):
    """Sizes and counts (`[limits]`), each with its arithmetic."""

    message_size: Size = Field(
        ge=64 * 1024,
        default=ByteSize(25 * 1024**2),
        description="Largest message, encoded (base64 adds a third: 25 MiB carry 18 MiB of files). One such message "
        "to 50 recipients at one destination takes 2 min 16 s of a 1544 kbit/s line; as 50 copies it would take nearly two hours.",
        examples=["25MiB"],
    )
    scan_size: Size = Field(
        default=ByteSize(64 * 1024**2),
        description="Largest message the filters read whole; must not be below `message_size`, or large mail passes unscanned.",
        examples=["64MiB"],
    )
    queue_volume: Size = Field(
        default=ByteSize(4 * 1024**3),
        description="Room of the mail queue; must hold at least 20 of the largest messages.",
        examples=["4GiB"],
    )
    mailbox_quota: Size = Field(
        default=ByteSize(2 * 1024**3), description="Default size of a mailbox.", examples=["2GiB"]
    )
    recipients_per_message: int = Field(
        default=50,
        ge=1,
        le=1000,
        description="Recipients a user may name in one message (strangers: RFC 5321's 100 at least).",
    )
    connections_per_client: int = Field(
        default=20, ge=1, le=1_000_000, description="Simultaneous SMTP sessions from one address on port 25."
    )
    connections_per_minute: int = Field(
        default=60, ge=1, le=1_000_000, description="New SMTP sessions a minute from one address on port 25."
    )
    imap_connections_per_user: int = Field(
        default=20, ge=4, le=1_000_000, description="Simultaneous IMAP sessions of one user from one address."
    )
    messages_per_minute: int = Field(
        default=120,
        ge=1,
        le=1_000_000,
        description="Messages a minute from one address on port 25 (`450 4.7.1`). 120 of 75 KiB fill a 1544 kbit/s line "
        "for 48 s of that minute, so one sender alone cannot keep it full.",
    )
    client_recipients_per_minute: int = Field(
        default=600,
        ge=100,
        le=1_000_000,
        description="Recipients a minute from one address on port 25; a stranger may name 100 in one message "
        "(RFC 5321, section 4.5.3.1.8).",
    )
    mailbox_messages: int = Field(
        default=100,
        ge=10,
        le=1_000_000,
        description="Messages from strangers that one mailbox takes in ten minutes (`450 4.7.1`, so that honest mail comes "
        "again), half of them from one network (/24, /64), three quarters from one IPv6 site (/48). 100 messages of 288 KiB are 28 MiB: a mail bomb holds a quarter of a 1544 kbit/s line, not all of it.",
    )
    unknown_recipients: int = Field(
        default=60,
        ge=10,
        description="Unknown recipients that one network (/24, /64) names in ten minutes, and a quarter of those that one IPv6 site (/48) names; then each of its recipients gets "
        "`450 4.7.1`, known or not. A session ends after ten (DSN-11).",
    )
    user_recipients: int = Field(
        default=300,
        ge=10,
        le=1_000_000,
        description="Recipients one user may send to in an hour; then the account is held and the postmaster told. "
        "300 recipients of 100 KiB take 2 min 39 s of a 1544 kbit/s line; a stolen password sends no more spam than that.",
    )
    user_hold: Duration = Field(
        default=3600,
        description="How long an account that went over `user_recipients` stays held (`450 4.7.1`).",
        examples=["1h"],
    )
    message_budget: Size = Field(
        default=ByteSize(256 * 1024**2),
        description="Size of one message of a user times the destinations it crosses the line to (`552 5.3.4`). "
        "256 MiB take 23 minutes of 1544 kbit/s; 25 MiB to 50 domains would take nearly two hours.",
        examples=["256MiB"],
    )
    same_signature: int | None = Field(
        default=None,
        ge=10,
        le=1_000_000,
        description="How often in an hour strangers may bring the very same signed message (DKIM replay). A list that "
        "writes to each member separately brings it once for each: keep it above the number of users. "
        "Without it: 100, or twice the users where that is more.",
    )
    mime_depth: int = Field(
        default=20,
        ge=5,
        le=1_000_000,
        description="Parts within parts of one message; a forward of a forward has four.",
    )
    header_bytes: Size = Field(
        default=ByteSize(64 * 1024),
        description="Header of one message; the largest honest ones (long lists of recipients, many hops) have about 30 KiB.",
        examples=["64KiB"],
    )
    redirects: int = Field(
        default=4,
        ge=0,
        le=1_000_000,
        description="Addresses that one user's filters may send a copy of a message to.",
    )
    alias_members: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Mailboxes that one recipient may stand for, through aliases of aliases. The copies stay inside; "
        "200 of the largest messages are 5 GiB of the store's disk. Without it: 200, or every mailbox where these are more.",
    )
    login_failures: int = Field(
        default=10,
        ge=3,
        le=1_000_000,
        description="Different wrong passwords for one account in `login_ban`, from wherever they come, before it answers no "
        "more to that place. The same wrong password again (a telephone that kept an old one) counts once. "
        "10 in 15 minutes are 960 a day: a password that the rules accept lasts for centuries.",
    )
    login_ban: Duration = Field(
        default=900,
        description="How long an account answers nothing to a place it was attacked from. Its owner's usual places "
        "go on working, and so do colleagues behind the same address.",
        examples=["15m"],
    )
