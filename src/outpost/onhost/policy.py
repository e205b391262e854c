"""What the MTA decides about an envelope: full mailboxes, mail bombs, guessed addresses, accounts that send too much.

Postfix asks over its policy protocol (SMTPD_POLICY_README): a request of ``name=value`` lines, an empty line, and
back comes one ``action=``. The context says who is speaking: ``stranger``, ``peer`` or ``user``.

- DOS-08: whether the mailbox is full is the store's knowledge (Dovecot's quota-status, mutual TLS); a store that
  does not answer refuses nobody.
- DOS-07: a mailbox takes a limited number of messages in ten minutes from strangers; the others do not notice. A message counts
  once per mailbox, when its last byte has come (END-OF-MESSAGE): naming recipients and leaving uses up nothing.
  A peer's own mail has a counter of its own; what a peer relays for others (a backup MX) counts as strangers' mail.
- DSN-11: a network (/24, /64) may guess a limited number of unknown addresses in ten minutes, an IPv6 site (/48) four times as many. Then each
  RCPT from it gets `450`, whether the address exists or not.
- REL-05: a login sends to a limited number of recipients in an hour; then it is held and the postmaster gets a message. A user's
  filters (absences, redirections) have a counter of their own: strangers set them off, so they never hold the login.
- AMP-05: bytes times destinations of one message, which is what it costs the line.
- QUE-01: large mail to a peer alone waits for the hours of its route, on hold; outpost-routes lets it go.

One file: the host runs it alone. Counters live in memory, holds in a file: neither a restart nor a crash releases a stolen account. An administrator
does (``python3 /usr/local/lib/outpost/policy release alice@po.example.com``), at once and without a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import smtplib
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from ipaddress import ip_network
from itertools import product
from pathlib import Path
from typing import Any

SETTINGS = Path("/etc/outpost/policy.json")
HELD = Path("/var/lib/outpost-policy/held.json")
REFUSED_FULL = Path("/run/outpost-routes/held-full")
"""Exists while outpost-routes counts too many refused messages of a backup MX on hold."""
LARGE = Path("/var/lib/outpost-policy/large")
"""One file for each message on hold for the hours of its route, named by its queue id: outpost-routes reads it."""
DUNNO = "DUNNO"
STORE_PATIENCE = 2.0
"""Seconds for the store's answer: RCPT waits no longer, and not again for `STORE_REST` seconds."""
STORE_REST = 5.0
HOUR = 3600
TEN_MINUTES = 600
REMEMBERED = 2000
"""Most transactions whose recipients are remembered until their end; the oldest of the client with most of them is removed first. Users and
strangers have separate ones. Of each kind of counter about twice as many are remembered."""

FULL = "452 4.2.2 The mailbox is full, please try again later"
BOMBED = "450 4.7.1 This mailbox is getting too much mail just now, please try again later"
GUESSING = "450 4.7.1 Too many unknown recipients from your network, please try again later"
HELD_FULL = "452 4.3.1 Too much refused mail waits for the postmaster here, please try again later"
AUTOMATIC = "554 5.7.1 Too many automatic messages of this user within an hour"
"""Permanent: the store's filter then keeps the message in the mailbox. A temporary refusal would keep it out."""


@dataclass
class Bucket:
    """A bucket: `size` events may happen at once, and then `size` in `seconds`."""

    size: float
    seconds: float
    level: float = 0.0
    at: float = 0.0

    def fits(self, now: float, amount: float = 1.0) -> bool:
        """Whether there is room; it counts nothing."""
        self.level, self.at = self.filled(now) * self.size, now
        return self.level + amount <= self.size

    def filled(self, now: float) -> float:
        """How full it is, from 0 to 1."""
        return max(0.0, self.level / self.size - (now - self.at) / self.seconds)

    def take(self, now: float, amount: float = 1.0) -> bool:
        """Whether the amount fits; if it does, it is counted."""
        fits = self.fits(now, amount)
        self.level += amount if fits else 0.0
        return fits


@dataclass
class Settings:
    """Settings from the office file: ``/etc/outpost/policy.json``."""

    socket: str
    domain: str
    aliases: dict[str, list[str]]
    mailboxes: list[str]
    peers: dict[str, dict[str, list[str]]]
    own_addresses: list[str]
    mailbox_messages: int
    unknown_recipients: int
    user_recipients: int
    user_hold: int
    message_budget: int
    store: dict[str, Any]
    postmaster: str
    alarm_port: int
    office: str = "OFFICE"
    large: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Holds:
    """Accounts that may not send, with the end of each block (seconds since 1970). They are kept in a file, if one is given,
    and an administrator may remove lines of it."""

    path: Path | None = None
    clock: Callable[[], float] = time.time
    until: dict[str, float] = field(default_factory=dict)
    seen: int = -1

    def left(self, login: str) -> float:
        """Seconds that an account still waits; 0 means that it may send."""
        self._read()
        return max(0.0, self.until.get(login, 0.0) - self.clock())

    def hold(self, login: str, seconds: float) -> None:
        """Stop an account from sending."""
        self._read()
        self.until[login] = self.clock() + seconds
        self._write()

    def release(self, login: str) -> bool:
        """Release an account; returns whether it was on hold."""
        held = self.left(login) > 0
        if self.until.pop(login, None) is not None:
            self._write()
        return held

    def _read(self) -> None:
        if self.path is None:
            return
        try:
            changed = self.path.stat().st_mtime_ns
            if changed != self.seen:
                known = json.loads(self.path.read_text())
                self.until = {str(login): float(until) for login, until in known.items()}
                self.seen = changed
        except FileNotFoundError:
            self.until, self.seen = {}, -1
        except (OSError, ValueError, AttributeError, TypeError) as trouble:  # accounts in memory stay on hold
            say(3, f"{self.path} cannot be read: {trouble}")

    def _write(self) -> None:
        if self.path is None:
            return
        now = self.clock()
        self.until = {login: until for login, until in self.until.items() if until > now}
        fresh = self.path.with_suffix(".new")
        try:
            fresh.write_text(json.dumps(self.until))
            fresh.replace(self.path)
            self.seen = self.path.stat().st_mtime_ns
        except OSError as trouble:
            say(3, f"{self.path} cannot be written, a restart will release users on hold: {trouble}")


@dataclass
class Transaction:
    """A message whose recipients are being named: by whom, how many, in which domains, and a stranger's recipients in the office."""

    client: str = ""
    recipients: int = 0
    destinations: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)


@dataclass
class Decisions:
    """The decisions, without sockets: `full` asks the store, `alarm` sends mail to the postmaster, `clock` gives the time."""

    settings: Settings
    full: Callable[[str, str], Any]
    alarm: Callable[[str, str], None]
    clock: Callable[[], float] = time.monotonic
    buckets: dict[str, dict[tuple[str, ...], Bucket]] = field(default_factory=dict)
    held: Holds = field(default_factory=Holds)
    open: dict[str, dict[str, Transaction]] = field(default_factory=lambda: {"user": {}, "stranger": {}})
    wait: Callable[[str], bool] = lambda _queue_id: False
    held_full: Callable[[], bool] = lambda: False
    time_of_day: Callable[[], str] = lambda: time.strftime("%H:%M", time.gmtime())

    async def answer(self, request: dict[str, str]) -> str:
        """The action for one request."""
        who = "user" if request.get("policy_context") == "user" else "stranger"
        match request.get("protocol_state"):
            case "RCPT":
                return self._outgoing(request) if who == "user" else await self._incoming(request)
            case "END-OF-MESSAGE":
                transaction = self.open[who].pop(request.get("instance", ""), None)
                if who == "user":
                    return self._whole(request, transaction or Transaction())
                # DOS-07: without it a stranger with thousands of transactions makes the service forget his messages, and they do not count
                if transaction is None and int(request.get("recipient_count") or 0) > 1:
                    return BOMBED
                return self._taken(request, transaction or Transaction())
        return DUNNO

    def _transaction(self, request: dict[str, str], who: str, client: str) -> Transaction:
        known = self.open[who]
        transaction = known.setdefault(request.get("instance", ""), Transaction(client))
        if len(known) > REMEMBERED:
            # DOS-07: not simply the oldest one: otherwise a client with many unfinished messages makes the service forget those of others
            most = Counter(each.client for each in known.values()).most_common(1)[0][0]
            del known[next(instance for instance, each in known.items() if each.client == most)]
        return transaction

    # Incoming ---------------------------------------------------------------------------------------------------

    async def _incoming(self, request: dict[str, str]) -> str:
        if answer := self._guessing(request):
            return answer
        mailboxes = self._behind(request.get("recipient", ""))
        size = request.get("size", "0")
        if await self._all_full(mailboxes, size):
            return FULL
        if self._relayed(request) and self.held_full():
            return HELD_FULL
        recipient = request.get("recipient", "").lower()
        begun = self.open["stranger"].get(request.get("instance", ""), Transaction()).named
        copies = self._copies({*begun, recipient})
        if not self._room(request, {name: copies[name] for name in mailboxes}):
            return BOMBED
        client = _networks(request.get("client_address", ""))[-1]
        self._transaction(request, "stranger", client).named.update([recipient] if mailboxes else ())
        return DUNNO

    async def _all_full(self, mailboxes: list[str], size: str) -> bool:
        # DOS-07: it stops at the first member with room: otherwise a stranger who names a list again and again makes all others wait
        for mailbox in mailboxes:
            if not await self.full(mailbox, size):
                return False
        return bool(mailboxes)

    def _taken(self, request: dict[str, str], transaction: Transaction) -> str:
        """The action for a complete message of a stranger or peer; it counts once per mailbox and detail."""
        # Postfix names the recipient here only if there is one, and forgets no transaction
        copies = self._copies(transaction.named or {request.get("recipient", "").lower()})
        if not self._room(request, copies):  # others were faster since RCPT
            return BOMBED
        for bucket, number in self._mailbox_buckets(request, copies):
            bucket.take(self.clock(), number)
        return DUNNO

    # DOS-07: without it a stranger who names alice+1, alice+2 and so on fills a mailbox by one message: Postfix delivers each
    def _room(self, request: dict[str, str], copies: Mapping[str, int]) -> bool:
        """Whether each mailbox may get so many copies of a message now."""
        return all(
            bucket.fits(self.clock(), number) for bucket, number in self._mailbox_buckets(request, copies)
        )

    def _guessing(self, request: dict[str, str]) -> str:
        """The refusal for a network that has named too many unknown recipients; an unknown one counts."""
        address, recipient = request.get("client_address", ""), request.get("recipient", "").rstrip(".")
        if address in self.settings.own_addresses or self._peer(address):
            return ""
        most, now = self.settings.unknown_recipients, self.clock()
        sizes = zip(_networks(address), (most, 4 * most), strict=False)
        buckets = [self._bucket("unknown", network, size=size) for network, size in sizes]
        if not all(bucket.fits(now) for bucket in buckets):
            return GUESSING
        if recipient.lower().endswith(f"@{self.settings.domain}") and not self._behind(recipient):
            for bucket in buckets:
                bucket.take(now)
        return ""

    def _peer(self, address: str) -> str:
        return next((name for name, peer in self.settings.peers.items() if address in peer["relays"]), "")

    def _relayed(self, request: dict[str, str]) -> bool:
        """Whether a peer hands over mail of others, as a backup MX does."""
        peer = self._peer(request.get("client_address", ""))
        domain = request.get("sender", "").lower().rpartition("@")[2]
        return bool(peer) and domain not in self.settings.peers[peer]["domains"]

    def _behind(self, recipient: str) -> list[str]:
        """The mailboxes behind an address; none for an unknown address."""
        # Postfix also accepts "postmaster" alone (RFC 5321, section 4.5.1) and the dot of the root
        address = _plain(recipient if "@" in recipient else f"{recipient}@{self.settings.domain}")
        own = [address] if address in self.settings.mailboxes else []
        return self.settings.aliases.get(address, own)

    def _copies(self, recipients: set[str]) -> dict[str, int]:
        """Mailbox → the copies of a message that it gets: one for each detail with which it is named, by its own address or an alias."""
        details: dict[str, set[str]] = {}
        for recipient in recipients:
            for name in self._behind(recipient):
                details.setdefault(name, set()).add(_detail(recipient))
        return {name: len(each) for name, each in details.items()}

    def _mailbox_buckets(
        self, request: dict[str, str], copies: Mapping[str, int]
    ) -> list[tuple[Bucket, int]]:
        """The counters of a message, each with the number of copies that go to its mailbox."""
        address = request.get("client_address", "")
        if address in self.settings.own_addresses:  # this host itself: its checks use its own listener
            return []
        most, peer = self.settings.mailbox_messages, self._peer(address)
        if peer and not self._relayed(request):
            return [(self._bucket("peer", name, peer, size=most), number) for name, number in copies.items()]
        # half for one network of senders, three quarters for one IPv6 site: a mail bomb from there leaves room for all others
        shares = tuple(zip((peer,) if peer else _networks(address), (most // 2, most * 3 // 4), strict=False))
        return [
            (bucket, number)
            for name, number in copies.items()
            for bucket in (
                *(self._bucket("network", name, client, size=size) for client, size in shares),
                self._bucket("mailbox", name, size=most),
            )
        ]

    # Outgoing ---------------------------------------------------------------------------------------------------

    def _outgoing(self, request: dict[str, str]) -> str:
        transaction = self._transaction(request, "user", request.get("sasl_username", ""))
        transaction.recipients += 1
        transaction.destinations.add(request.get("recipient", "").lower().rpartition("@")[2])
        return self._too_many(request, transaction, Bucket.fits) or self._too_costly(
            request, transaction.destinations
        )

    def _too_many(
        self, request: dict[str, str], transaction: Transaction, room: Callable[[Bucket, float, float], bool]
    ) -> str:
        """The refusal when a message's recipients are more than its sender has left of the hour; else nothing."""
        # without a login: the store's filters, under their owner's address; strangers set them off (C15)
        login, owner = request.get("sasl_username", ""), _plain(request.get("sender", ""))
        if left := self.held.left(login or owner):
            return self._hold(left) if login else AUTOMATIC
        kind = "user" if login else "filters"
        bucket = self._bucket(kind, login or owner, size=self.settings.user_recipients, seconds=HOUR)
        if room(bucket, self.clock(), transaction.recipients):
            return ""
        if not login:
            return AUTOMATIC
        self.held.hold(login, self.settings.user_hold)
        bucket.level = 0.0  # an account that is released starts with an empty counter
        self.alarm(login, request.get("recipient", ""))
        return self._hold(self.settings.user_hold)

    def _hold(self, seconds: float) -> str:
        return (
            f"450 4.7.1 More than {self.settings.user_recipients} recipients within an hour: sending is stopped for "
            f"{max(1, round(seconds / 60))} minutes. If you did not send them, write to {self.settings.postmaster}"
        )

    def _whole(self, request: dict[str, str], transaction: Transaction) -> str:
        """The action for a complete message."""
        # Postfix counts as well (recipient_count), and forgets no transaction
        transaction.recipients = max(transaction.recipients, int(request.get("recipient_count") or 0))
        destinations = transaction.destinations
        answer = self._too_costly(request, destinations)
        if answer == DUNNO:
            answer = self._too_many(request, transaction, Bucket.take) or DUNNO
        for route in self.settings.large if answer == DUNNO else ():
            begin, end = route["hours"].split("-")
            clock = self.time_of_day()
            now = begin <= clock < end if begin <= end else clock >= begin or clock < end
            # a message that also goes to others must not wait
            alone = bool(destinations) and destinations <= set(route["domains"])
            large = int(request.get("size") or 0) >= route["size"]
            if alone and large and not now and self.wait(request.get("queue_id", "")):
                return f"HOLD large mail to {route['name']} leaves at {begin} UTC"
        return answer

    def _too_costly(self, request: dict[str, str], destinations: set[str]) -> str:
        size = int(request.get("size") or 0)
        destinations = destinations - {self.settings.domain}
        if size * len(destinations) <= self.settings.message_budget:
            return DUNNO
        return (
            f"552 5.3.4 {size // 1024} KiB to {len(destinations)} destinations is more than the line can carry: "
            "send to fewer recipients at a time, or send a link"
        )

    def _bucket(self, kind: str, *key: str, size: int, seconds: int = TEN_MINUTES) -> Bucket:
        buckets = self.buckets.setdefault(kind, {})
        # DOS-07: strangers choose the number of networks, so those with the lowest counts are removed first: otherwise recipients named from
        # many networks make the service forget a mail bomb
        if len(buckets) >= 2 * REMEMBERED:
            by_content = sorted(buckets.items(), key=lambda item: item[1].filled(self.clock()))
            self.buckets[kind] = buckets = dict(by_content[-REMEMBERED:])
        buckets[key] = bucket = buckets.pop(key, None) or Bucket(size, seconds)
        return bucket


@dataclass
class Store:
    """The store's quota-status over mutual TLS, on one connection that is opened again when it breaks."""

    addresses: list[str]
    port: int
    names: list[str]
    authority: str
    certificate: str
    key: str
    rests_until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    link: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def full(self, mailbox: str, size: str) -> bool:
        """Whether the mailbox has no room for a message of this size; false while the store is down."""
        question = f"request=smtpd_access_policy\nrecipient={mailbox}\nsize={size}\n\n".encode()
        async with self.lock:
            if time.monotonic() < self.rests_until:
                return False
            for _attempt in range(2):  # an idle connection may have been closed meanwhile
                try:
                    async with asyncio.timeout(STORE_PATIENCE):
                        answer = await self._ask(question)
                except (OSError, TimeoutError, EOFError) as trouble:
                    reason = trouble
                    if self.link is not None:
                        self.link[1].close()
                    self.link = None
                else:
                    return not answer.startswith((b"action=DUNNO", b"action=OK"))
            say(4, f"the store does not report quotas: {reason!r}")
            self.rests_until = time.monotonic() + STORE_REST
            return False

    async def _ask(self, question: bytes) -> bytes:
        if self.link is None:
            self.link = await self._connect()
        reader, writer = self.link
        writer.write(question)
        await writer.drain()
        return (await reader.readuntil(b"\n\n")).strip()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = ssl.create_default_context(cafile=self.authority)
        context.load_cert_chain(self.certificate, self.key)
        refused: OSError = ConnectionError("no address")
        for name, address in product(self.names, self.addresses):
            try:
                return await asyncio.open_connection(address, self.port, ssl=context, server_hostname=name)
            except OSError as trouble:
                refused = trouble
        raise refused


def _plain(address: str) -> str:
    """An address in lower case, without its detail (after a plus sign) and the dot of the root."""
    local, _, domain = address.lower().rstrip(".").rpartition("@")
    return f"{local.partition('+')[0]}@{domain}"


def _detail(address: str) -> str:
    """The detail of an address (RFC 5233) in lower case, as Postfix compares recipients."""
    local, at, alone = address.lower().rpartition("@")
    return (local if at else alone).partition("+")[2]


def _networks(address: str) -> tuple[str, ...]:
    """The /24 of an address, or its /64 and its /48: a /48 contains 65,536 networks of /64."""
    try:
        return tuple(
            str(ip_network((address, length), strict=False))
            for length in ((64, 48) if ":" in address else (24,))
        )
    except ValueError:
        return (address,)


def keep_for_later(queue_id: str) -> bool:
    """Record that a message waits for the hours of its route; false: it is sent now."""
    try:
        LARGE.mkdir(mode=0o700, exist_ok=True)
        (LARGE / queue_id).touch()
    except OSError as trouble:
        say(3, f"{queue_id} is sent at once: {trouble}")
        return False
    return bool(queue_id)


def say(priority: int, line: str) -> None:
    """A line for the journal, with its priority (sd-daemon(3))."""
    sys.stderr.write(f"<{priority}>{line}\n")


def tell_postmaster(settings: Settings, login: str, recipient: str) -> None:
    """Mail about an account on hold, through the listener that accepts mail for the postmaster only."""
    message = EmailMessage()
    message["From"] = f"Mail gateway <postmaster@{settings.domain}>"
    message["To"] = settings.postmaster
    message["Subject"] = f"Account on hold: {login}"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(
        f"{login} has sent to more than {settings.user_recipients} recipients within an hour; the last was {recipient}.\n"
        f"Its mail is refused for {settings.user_hold // 60} minutes. If the user did not send this, somebody else has the password:\n"
        f"run `./outpost user passwd {settings.office} {login}` before the time is over.\n"
        "To let the account send again at once, run on this host as root:\n"
        f"python3 /usr/local/lib/outpost/policy release {login}\n"
    )
    try:
        with smtplib.SMTP(
            "127.0.0.1", settings.alarm_port, local_hostname="[127.0.0.1]", timeout=30
        ) as session:
            session.send_message(message, "", [settings.postmaster])
    except (OSError, smtplib.SMTPException) as trouble:
        say(3, f"the message to the postmaster could not be sent: {trouble}")


def attributes(request: bytes) -> dict[str, str]:
    """A request's ``name=value`` lines; only LF ends a line, and a name's first line counts."""
    lines = request.decode(errors="replace").split("\n")
    return dict(line.partition("=")[::2] for line in reversed(lines) if line)


async def serve(settings: Settings) -> None:
    store = Store(**settings.store)

    def alarm(login: str, recipient: str) -> None:
        say(
            1, f"sending held: {login} sent to more than {settings.user_recipients} recipients within an hour"
        )
        asyncio.get_running_loop().run_in_executor(None, tell_postmaster, settings, login, recipient)

    decisions = Decisions(
        settings, store.full, alarm, held=Holds(HELD), wait=keep_for_later, held_full=REFUSED_FULL.exists
    )

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, asyncio.LimitOverrunError):
            while True:
                request = attributes(await reader.readuntil(b"\n\n"))
                writer.write(f"action={await decisions.answer(request)}\n\n".encode())
                await writer.drain()
        writer.close()

    place = Path(settings.socket)
    place.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(client, settings.socket)
    place.chmod(0o660)
    async with server:
        await server.serve_forever()


def main(arguments: list[str]) -> int:
    """The service, or ``release LOGIN…`` by an administrator."""
    if not arguments:
        asyncio.run(serve(Settings(**json.loads(SETTINGS.read_text()))))
        return 0
    if arguments[0] != "release" or len(arguments) < 2:
        sys.stderr.write("usage: policy [release LOGIN...]\n")
        return 2
    # an administrator: as root it must not follow a link that the service's account may have put there
    if os.geteuid() == 0:
        owner = HELD.parent.stat()
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
    for login in arguments[1:]:
        word = "may send again" if Holds(HELD).release(login) else "was not held"
        sys.stdout.write(f"{login} {word}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
