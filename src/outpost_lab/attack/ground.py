"""The office under attack: its addresses, the machines around it, and ways to see its state."""

import asyncio
import contextlib
import email.utils
import re
import shlex
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from secrets import token_hex
from typing import Any

from outpost.errors import OutpostError
from outpost.office import Host, Office, ports
from outpost.target import Target
from outpost.transport import answers
from outpost.transport.connector import NOT_BEGUN
from outpost_lab import engine, pace
from outpost_lab.attack.evidence import Evidence
from outpost_lab.attack.wire import PATIENCE, Reply, Session, Vantage, plain, unverified
from outpost_lab.instance import Instance
from outpost_lab.instance import info as lab_info
from outpost_lab.post import OfficeUser, Town

SINK = "internet.test"  # where bounces to forged senders would go: any local part is a mailbox there
HOSTILE_OCTETS = range(100, 231)  # addresses that the hostile machine may take, besides its own
PLACES = {  # vantage point: machine of the lab
    "internet": "attacker", "stranger": "internet", "peer": "headoffice", "client": "clientsite", "lan": "workstation"
}  # fmt: skip
HELLO = "attacker.hostile.test"
LINE = b"0123456789abcdef" * 4 + b"\r\n"  # a line of a large message


@dataclass
class Ground:
    """One office and the vantage points around it.

    Attributes:
        internet: A hostile machine on the Internet, with many addresses.
        stranger: An honest mail server on the Internet.
        peer: Head office's mail server.
        client: The client's mail server, in the client's network.
        lan: A workstation of the office.
        info: What `outpost_lab.instance.info` gives; empty for an office that is not the lab.
        idle: What users wait for without an attack (outpost_lab.attack.probe).
    """

    office: Office
    internet: Vantage
    stranger: Vantage
    peer: Vantage
    client: Vantage
    lan: Vantage
    info: dict[str, Any] = field(default_factory=dict, kw_only=True)
    turn: int = field(default=0, init=False)
    idle: dict[str, float] = field(default_factory=dict, init=False)

    # Who and where ---------------------------------------------------------------------------------------------

    def role(self, role: str) -> Host:
        return next(host for host in self.office.hosts if host.role == role)

    @property
    def domain(self) -> str:
        return self.office.domain

    @property
    def edge(self) -> str:
        """The addresses where strangers' mail comes in."""
        return str(self.office.addresses_of_kind(self.role("mta"), "internet")[0])

    @property
    def edge6(self) -> str:
        """The same by IPv6; by IPv4 if the office has no IPv6."""
        addresses = self.office.addresses_of_kind(self.role("mta"), "internet")
        return str(next((address for address in addresses if address.version == 6), addresses[0]))

    async def newcomer(self) -> str:
        """An IPv6 address that nobody has used before, for the hostile machine."""
        own = ip_address(self.info["world"]["attacker"]["addresses"]["wan"][1])
        source = ":".join([*own.exploded.split(":")[:4], *(token_hex(2) for _ in range(3)), "66"])
        interface = f"$(ip -o -6 address show | grep -F ' {own.compressed}/' | awk '{{print $2}}')"
        await self.on("attacker", f"ip address add {source}/64 dev {interface} nodad", check=True)
        return source

    @property
    def store(self) -> str:
        """The addresses where users read and send."""
        return str(self.office.addresses_of_kind(self.role("store"), "users")[0])

    @property
    def webmail(self) -> str:
        """The addresses for users' browsers."""
        return str(self.office.addresses_of_kind(self.role("webmail"), "users")[0])

    @property
    def words(self) -> dict[str, str]:
        """Words in an attack's text → the office's names for them."""
        peers, mta = self.office.peers, self.role("mta").fqdn
        peer = peers[0].domains[0] if peers else SINK
        address = self.info["world"]["internet"]["addresses"]["wan"][0] if self.info else "192.0.2.1"
        return {
            "office": self.office.name, "domain": self.domain, "DOMAIN": self.domain.upper(), "edge": self.edge, "mta": mta,
            "alice": self.someone(), "bob": self.someone(1), "dave": self.someone(3),
            "carol": f"carol@{self.domain}", "name": self.office.users[0].full_name, "peer": peer, "elsewhere": SINK,
            "address": str(address), "quoted": self.someone().replace("@", "=40"), "A": "",
        }  # fmt: skip

    def someone(self, number: int = 0) -> str:
        """A mailbox of the office."""
        return self.office.mailboxes[number % len(self.office.mailboxes)]

    def reader(self) -> str:
        """A different mailbox each time: what one of them accepts in ten minutes is limited (DOS-07)."""
        self.turn += 1
        return self.someone(self.turn)

    def user(self, name: str) -> OfficeUser:
        """A user with a password, by local part."""
        return Town(self.info).user(name)

    def password(self, address: str) -> str:
        return str(self.info["users"][address])

    def secret(self, name: str) -> str:
        """The right answer to SASL PLAIN, by local part."""
        address = f"{name}@{self.domain}"
        return plain(address, self.password(address))

    # Sessions --------------------------------------------------------------------------------------------------

    async def smtp(
        self,
        seen: Evidence,
        vantage: Vantage | None = None,
        *,
        address: str = "",
        port: int = ports.SMTP,
        greeting: bool = True,
        hello: bool = True,
        source: str | None = None,
        patience: float = PATIENCE,
    ) -> Session:
        """A session with an SMTP listener; each session from the Internet has an address of its own.

        An honest stranger that connects too often within a minute tries again later, as servers do.
        """
        vantage, wait = vantage or self.internet, pace.Patience(90)
        while True:
            place, own = address or self.edge, source or vantage.fresh_source()
            streams = await vantage.connect(place, port, source=own, patience=patience)
            session = Session(streams, seen.session(), patience=patience)
            if not greeting:
                return session
            session.greeting = await session.reply()
            crowded = session.greeting.code == 421 and "too many connections" in session.greeting.text
            if not (crowded and vantage is self.stranger and wait.left):
                break
            session.close()
            await asyncio.sleep(5)
        if hello:
            await session.say(f"EHLO {HELLO}")
        return session

    async def last_reply(self, seen: Evidence, *lines: str, vantage: Vantage | None = None) -> Reply:
        """Send lines in a session of its own and return the last reply; a refusal ends them. Without a vantage an honest stranger sends."""
        async with await self.smtp(seen, vantage or self.stranger) as session:
            return await session.while_good(*lines)

    async def greeted(
        self, seen: Evidence, vantage: Vantage | None = None, patience: float = PATIENCE
    ) -> float:
        """Seconds until a client gets its greeting, which must be good. Without a vantage it is an honest stranger."""
        started = time.monotonic()
        async with await self.smtp(seen, vantage or self.stranger, patience=patience) as session:
            seen.expect(session.greeting, "220")
        return time.monotonic() - started

    async def mail(
        self, seen: Evidence, sender: str, recipient: str, message: bytes, vantage: Vantage | None = None
    ) -> Reply:
        """Send one message in a session of its own; return the last reply. Without a vantage an honest stranger sends it."""
        async with await self.smtp(seen, vantage or self.stranger, patience=120) as session:
            return await session.deliver(sender, recipient, message, patience=200)

    async def submission(self, seen: Evidence, name: str = "") -> Session:
        """Port 465 at the store from the LAN; logged in if a user is named."""
        session = Session(await self.lan.connect(self.store, ports.SUBMISSIONS), seen.session())
        await session.start_tls(self.role("store").fqdn, self.trust)
        session.greeting = await session.reply()
        await session.say("EHLO workstation.lan.test")
        if name:
            await self.log_in(session, name)
        return session

    async def log_in(self, session: Session, name: str) -> None:
        """SASL PLAIN with the user's password, which stays out of the transcript."""
        await session.send(f"AUTH PLAIN {self.secret(name)}\r\n".encode(), shown=f"AUTH PLAIN (as {name})")
        answer = await session.reply()
        if answer.code != 235:
            raise OutpostError(f"{name} cannot log in: {answer.brief}")

    async def out_of_reach(
        self, seen: Evidence, vantage: Vantage, address: str, port: int, where: str
    ) -> None:
        """Expect that a vantage point gets no answer there."""
        why = await self.silence(vantage, address, port, patience=3)
        seen.check(bool(why), f"{where}: {why}", f"{where} answers")

    async def silence(self, vantage: Vantage, address: str, port: int, *, patience: float) -> str:
        """Why nobody answers there; empty if somebody does."""
        try:
            _, writer = await vantage.connect(address, port, patience=patience)
        except (OSError, TimeoutError) as error:
            return type(error).__name__
        writer.close()
        return ""

    @property
    def trust(self) -> ssl.SSLContext:
        """TLS as the office's clients use it."""
        return ssl.create_default_context(cafile=self.info["ca"]) if self.info else unverified()

    # Its state ------------------------------------------------------------------------------------------------

    def container(self, machine: str) -> str:
        """A machine's name for Docker."""
        return str((self.info["hosts"] | self.info["world"])[machine]["container"])

    async def on(self, machine: str, command: str, *, check: bool = False) -> str:
        """Standard output of a shell command on a machine of the lab; one that Docker did not start is repeated."""
        printed = await self._on(machine, command, check=check)
        return await self._on(machine, command, check=check) if printed.startswith(NOT_BEGUN) else printed

    async def _on(self, machine: str, command: str, *, check: bool) -> str:
        process = await asyncio.create_subprocess_exec(
            "docker", "exec", self.container(machine), "sh", "-c", command,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            out, err = await asyncio.gather(_bounded(process.stdout), _bounded(process.stderr))
        except answers.TooMuchError:
            process.kill()
            message = f"{machine} answered more than {answers.MOST // 1024**2} MiB"
            raise OutpostError(message, "examine the machine before you trust it") from None
        text = out.decode(errors="replace")
        strict = check or command.startswith("set -e")
        if await process.wait() and strict and not text.startswith(NOT_BEGUN):
            last = err.decode(errors="replace").strip().splitlines()[-1:] or "failed"
            raise OutpostError(f"{machine}: {last}")
        return text

    async def quiet(self) -> None:
        """Reset everything that earlier attacks left: counters in memory (DOS-07, AUT-03), held accounts (REL-05)."""
        await self.on_mta(
            "systemctl try-restart outpost-policy.service; "
            f"python3 /usr/local/lib/outpost/policy release {' '.join(self.office.mailboxes)}"
        )
        await self.on_store("systemctl try-restart outpost-logins.service")

    async def on_mta(self, command: str) -> str:
        return await self.on(self.role("mta").name, command)

    async def on_store(self, command: str) -> str:
        return await self.on(self.role("store").name, command)

    async def queue_length(self, *queues: str) -> int:
        """Number of messages in these queues of Postfix, or in all."""
        queues = queues or ("maildrop", "incoming", "active", "deferred")
        found = await self.on_mta(f"cd /var/spool/postfix && find {' '.join(queues)} -type f | wc -l")
        return int(found.strip() or 0)

    async def drop_mail_to(self, word: str) -> None:
        """Delete what an attack has left in the MTA's queue."""
        ids = f'postqueue -j | grep -F {shlex.quote(word)} | sed \'s/.*"queue_id": *"\\([^"]*\\)".*/\\1/\''
        await self.on_mta(f"{ids} | postsuper -d - 2>/dev/null; true")

    async def expunge(self, mark: str, address: str) -> None:
        """Delete what an attack has left in an inbox, found by a token in its text."""
        await self.on_store(f"doveadm expunge -u {address} mailbox INBOX body {mark}; true")

    # The victim of backscatter -----------------------------------------------------------------------------------

    def victim(self) -> str:
        """An address elsewhere whose mailbox has never had a message."""
        return f"victim-{token_hex(5)}@{SINK}"

    async def sink(self, victim: str) -> int:
        box = shlex.quote(f"/var/mail/{SINK}/{victim.partition('@')[0]}/new")
        return int((await self.on("internet", f"ls {box} 2>/dev/null | wc -l")).strip())

    async def nothing_at(self, victim: str, seen: Evidence) -> bool:
        """Wait until the office has nothing more to send to a victim, and expect that nothing has arrived."""
        waiting = f"postqueue -j | grep -cF {shlex.quote(victim)}"  # … or is being delivered to the sink

        async def gone() -> bool:
            return not int(await self.on_mta(waiting)) and not int(await self.on("internet", waiting))

        await self.until(gone, patience=40)
        return await self.unheard(victim, seen)

    async def unheard(self, victim: str, seen: Evidence) -> bool:
        """Expect that nothing has arrived at a victim so far."""
        got = await self.sink(victim)
        return seen.check(got == 0, f"{got} messages at the victim's sink")

    async def delivered(self, token: str, *names: str) -> int:
        """How many messages with a token in their text are in mailboxes of the office."""
        boxes = " ".join(f"/srv/mail/{shlex.quote(name)}/Maildir" for name in names) or "/srv/mail"
        found = await self.on_store(f"grep -rlsF --include='*,S=*' -- {shlex.quote(token)} {boxes} | wc -l")
        return int(found.strip())

    async def undelivered(self, token: str, seen: Evidence) -> bool:
        """Expect that nobody in the office has a message with a token."""
        return seen.check(not await self.delivered(token), "not delivered", "delivered")

    async def until(self, count: Callable[[], Awaitable[int]], *, patience: float) -> int:
        """A count (or an answer), as soon as it is not 0; 0 if that does not happen in time."""
        wait = pace.Patience(patience)
        while not (found := await count()) and wait.left:
            await asyncio.sleep(0.3)
        return found

    async def settled(self, *, patience: float = 30.0) -> None:
        """Wait until the queue has no message of an attack."""

        async def empty() -> bool:
            return not await self.queue_length("incoming", "active")

        await self.until(empty, patience=patience)


def compose(
    sender: str, recipient: str, token: str, *, subject: str = "Minutes of the site meeting", extra: str = ""
) -> bytes:
    """An ordinary message with a token in its text."""
    domain = re.search(r"@([\w.-]*\w)", sender)
    return (
        f"From: {sender}\r\nTo: {recipient}\r\nSubject: {subject}\r\n"
        f"Date: {email.utils.formatdate(localtime=False)}\r\nMessage-ID: <{token_hex(8)}@{domain[1] if domain else SINK}>\r\n"
        f"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n{extra}\r\n"
        f"Dear colleague,\r\n\r\nplease find below what we agreed upon this morning.\r\n{token}\r\n\r\nKind regards\r\n"
    ).encode()


def token() -> str:
    """Text that is in no other message."""
    return f"outpost-attack-{token_hex(8)}"


async def _bounded(stream: asyncio.StreamReader | None) -> bytes:
    """Read the output of a machine that may be compromised, to its end."""
    assert stream is not None
    try:
        await stream.readexactly(answers.MOST + 1)
    except asyncio.IncompleteReadError as whole:
        return whole.partial
    raise answers.TooMuchError


async def stand(target: Target, office: Office) -> Ground:
    """The ground of an office: all vantage points for the lab, only this machine for any other office."""
    here = Vantage("this machine")
    if target.instance is None:
        return Ground(office, here, here, here, here, here)
    instance = await asyncio.to_thread(Instance.load, target.instance)
    docker = await asyncio.to_thread(engine.connect)
    processes = (instance.container(machine, docker).attrs["State"]["Pid"] for machine in PLACES.values())
    places = [Vantage(name, f"/proc/{pid}/ns/net") for name, pid in zip(PLACES, processes, strict=True)]
    ground = Ground(office, *places, info=lab_info(instance))
    ground.internet.sources = await _many_addresses(ground, "add")
    await ground.quiet()
    return ground


async def _many_addresses(ground: Ground, change: str) -> tuple[str, ...]:
    """Give the hostile machine many addresses, or remove them: a client that is judged by its address gets a new one."""
    own = str(ground.info["world"]["attacker"]["addresses"]["wan"][0])
    sources = tuple(f"{own.rpartition('.')[0]}.{octet}" for octet in HOSTILE_OCTETS)
    each = "; ".join(f"ip address {change} {source}/24 dev $interface 2>/dev/null" for source in sources)
    interface = f"$(ip -o -4 address show | grep -F ' {own}/' | awk '{{print $2}}')"
    await ground.on("attacker", f"interface={interface}; {each}; true")
    return sources


async def leave(ground: Ground) -> None:
    """Remove what `stand` has added to the test environment."""
    if ground.internet.sources:
        with contextlib.suppress(OutpostError):
            await _many_addresses(ground, "del")
