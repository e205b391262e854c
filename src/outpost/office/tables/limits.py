"""Sizes and counts."""

from pydantic import Field

from outpost.office.tables.values import Duration, Part, Size, counted, lasting, sized


class Limits(Part):
    """Sizes and counts (`[limits]`), each with its arithmetic."""

    message_size: Size = sized("25MiB", ge=64 * 1024)
    """Largest message, encoded (base64 adds a third: 25 MiB carry 18 MiB of files). One such message to 50 recipients
    at one destination takes 2 min 16 s of a 1544 kbit/s line; as 50 copies it would take nearly two hours."""
    scan_size: Size = sized("64MiB")
    """Largest message that the filters scan in full. It must not be below `message_size`, or large mail passes
    unscanned."""
    queue_volume: Size = sized("4GiB")
    """Size of the mail queue; it must hold at least 20 of the largest messages."""
    mailbox_quota: Size = sized("2GiB", "Default size of a mailbox.")
    recipients_per_message: int = counted(50, most=1000)
    """Recipients a user may name in one message (strangers: RFC 5321's 100 at least)."""
    connections_per_client: int = counted(20, "Simultaneous SMTP sessions from one address on port 25.")
    connections_per_minute: int = counted(60, "New SMTP sessions a minute from one address on port 25.")
    imap_connections_per_user: int = counted(20, least=4)
    """Simultaneous IMAP sessions of one user from one address."""
    messages_per_minute: int = counted(120)
    """Messages a minute from one address on port 25 (`450 4.7.1`). 120 of 75 KiB fill a 1544 kbit/s line for 48 s of
    that minute, so one sender alone cannot keep it full."""
    client_recipients_per_minute: int = counted(600, least=100)
    """Recipients a minute from one address on port 25; a stranger may name 100 in one message (RFC 5321, section
    4.5.3.1.8)."""
    mailbox_messages: int = counted(100, least=10)
    """Messages from outside that one mailbox accepts in ten minutes (then `450 4.7.1`, so that honest senders try
    again): half of them from one network (/24, /64), three quarters from one IPv6 site (/48). 100 messages of 288 KiB
    are 28 MiB: a mail bomb uses a quarter of a 1544 kbit/s line, not all of it."""
    unknown_recipients: int = Field(default=60, ge=10)
    """Unknown recipients that one network (/24, /64), and four times as many that one IPv6 site (/48), may name in
    ten minutes. After that every recipient from there gets `450 4.7.1`, known or not. A session ends after ten
    (DSN-11)."""
    user_recipients: int = counted(300, least=10)
    """Recipients to whom one user may send in an hour; then the account is put on hold and the postmaster gets a
    message. 300 recipients of 100 KiB take 2 min 39 s of a 1544 kbit/s line; a stolen password sends no more spam
    than that."""
    user_hold: Duration = lasting("1h")
    """How long an account that exceeded `user_recipients` stays on hold (`450 4.7.1`)."""
    message_budget: Size = sized("256MiB")
    """Limit for the size of a user's message, multiplied by the number of destinations outside (`552 5.3.4`). 256 MiB
    take 23 minutes of a 1544 kbit/s line; 25 MiB to 50 domains would take nearly two hours."""
    same_signature: int | None = counted(None, least=10)
    """How often in an hour the same signed message may come from outside (DKIM replay). A list that writes to each
    member separately brings it once for each: keep this above the number of users. Default: 100, or twice the users
    where that is more."""
    mime_depth: int = counted(20, "Nested parts of one message; a forward of a forward has four.", least=5)
    header_bytes: Size = sized("64KiB")
    """Header of one message; the largest honest ones (long lists of recipients, many hops) have about 30 KiB."""
    redirects: int = counted(4, least=0)
    """Addresses to which one user's filters may send a copy of a message."""
    alias_members: int | None = counted(None)
    """Mailboxes behind one recipient, through aliases of aliases. The copies stay in the office; 200 of the largest
    messages are 5 GiB of the store's disk. Default: 200, or all mailboxes where these are more."""
    login_failures: int = counted(10, least=3)
    """Different wrong passwords for one account within `login_ban`, from any address, before it refuses logins from
    there. The same wrong password again (a telephone with an old one) counts once. 10 in 15 minutes are 960 a day: a
    password that the rules accept lasts for centuries."""
    login_ban: Duration = lasting("15m")
    """How long an account refuses logins from an address that attacked it. Addresses that its owner used before go on
    working, and so do colleagues behind the same address."""
