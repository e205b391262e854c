"""A rehearsal of rollovers: time is compressed in the office file, mail flows, and everything is written down.

Nothing is faked: the keys' lifetimes are those of the office file, the name server rolls by its own policy, and
messages are judged where they arrive, by keys that a validating resolver vouches for.
"""

from __future__ import annotations

import imaplib
import logging
import os
import re
import smtplib
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import dkim
import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import tomlkit

from outpost.keys import secrets_file
from outpost.target import LAB, ROOT
from outpost_lab import pace
from outpost_lab.instance import Instance, info
from outpost_lab.post import Neighbour, OfficeUser, Town, compose
from tests.awaiting import until

T = TypeVar("T")

PATIENCE = 600.0
PACE = 5.0
"""Seconds between two messages of one correspondent: below the limits that the office sets its users."""
BOGUS = range(5, 13)
"""Extended DNS errors that say an answer failed validation (RFC 8914, section 4.6 to 4.13)."""
DISBELIEF = re.compile(
    r"not verified|not trusted|certificate verif|handshake fail|TLS is required|TLSA lookup error"
    r"|(Untrusted|Trusted|Anonymous) TLS connection established to mta\.|Name service error for name=\S*po\."
)
"""Log lines of mail servers that do not trust a key, or that verify the office's MTA by less than its TLSA record."""
BELIEF = re.compile(r"Verified TLS connection established to mta\.|C=.*CV=yes|CV=yes.*C=")
"""Postfix logs Verified for a DANE match. Exim on the client's network has no TLSA record, and logs it for the name."""


@dataclass
class Log:
    """Observations: threads write them, the test reads them."""

    carried: Counter[str] = field(default_factory=Counter)
    verified: Counter[str] = field(default_factory=Counter)
    again: list[str] = field(default_factory=list)
    selectors: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    looks: int = 0


@dataclass
class Rehearsal:
    """A lab whose keys roll while mail flows.

    Attributes:
        user: The office's correspondent.
    """

    lab: Instance
    user: str = "alice"
    log: Log = field(default_factory=Log)
    output: list[str] = field(default_factory=list)
    typed: set[str] = field(default_factory=set)
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def resolver(self) -> str:
        """The world's validating resolver."""
        return self.lab.machine("gw").addresses["core"][0]

    # The controller's part ---------------------------------------------------------------------------------

    def outpost(self, *arguments: str, check: bool = True) -> str:
        """Run a command as it is typed, with its complete log; returns its output."""
        done = subprocess.run(
            [sys.executable, "-m", "outpost", *arguments, "--name", self.lab.name],
            cwd=ROOT,
            env=os.environ | {"OUTPOST_DEBUG": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        self.output += [done.stdout, done.stderr]
        if done.returncode:  # the reason of one of several hosts is not at the end
            logging.getLogger(__name__).info("%s: %s%s", " ".join(arguments), done.stdout, done.stderr)
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout[-400:]}{done.stderr[-800:]}"
        return done.stdout if check else done.stdout + done.stderr

    def apply(self, *roles: str) -> None:
        limits = [argument for role in roles for argument in ("--limit", role)]
        self.outpost("apply", LAB, "-y", "--no-verify", *limits)

    def step(self, kind: str) -> str:
        return self.outpost("rotate", kind, LAB)

    @contextmanager
    def declared(self, change: Callable[[tomlkit.TOMLDocument], None], *roles: str) -> Iterator[None]:
        """Apply another office file to hosts of these roles; the old one is restored afterwards."""
        file = self.lab.office_file
        before = file.read_text(encoding="utf-8")
        document = tomlkit.parse(before)
        change(document)
        file.write_text(tomlkit.dumps(document), encoding="utf-8")
        try:
            self.apply(*roles)
            yield
        finally:
            file.write_text(before, encoding="utf-8")
            self.apply(*roles)

    def policy(self, **values: str) -> AbstractContextManager[None]:
        """Other values in `[dns]`. Mail waits at most as long as its DKIM key is published."""

        def change(document: tomlkit.TOMLDocument) -> None:
            document.setdefault("dns", tomlkit.table()).update(values)
            if "dkim_retention" in values:
                document["link"].update(queue_lifetime=values["dkim_retention"], delay_warning="1s")

        return self.declared(change, "dns", "mta")

    # Keys in sight -----------------------------------------------------------------------------------------

    def ask(self, server: str, name: str, rtype: str, *, recurse: bool = False) -> dns.message.Message:
        """One question over TCP."""
        question = dns.message.make_query(name, rtype, want_dnssec=True)
        if not recurse:
            question.flags &= ~dns.flags.RD
        return dns.query.tcp(question, server, timeout=10 * pace.load())

    def keys(self, flags: int) -> set[str]:
        """DNSKEY data with these flags (256: ZSK, 257: KSK) that every name server of the office shows."""
        seen = [
            self._keys_at(str(host.in_zone("wan")[0]), flags) for host in self.lab.office.with_role("dns")
        ]
        return set.intersection(*seen)

    def _keys_at(self, server: str, flags: int) -> set[str]:
        answer = self.ask(server, self.lab.office.domain, "DNSKEY")
        found = [rdata for rrset in answer.answer for rdata in rrset if rrset.rdtype == dns.rdatatype.DNSKEY]
        return {key.to_text() for key in found if key.flags == flags}

    def ds(self) -> set[str]:
        """DS data at the parent."""
        answer = self.ask(self.lab.machine("root").addresses["wan"][0], self.lab.office.domain, "DS")
        return {
            rdata.to_text() for rrset in answer.answer for rdata in rrset if rrset.rdtype == dns.rdatatype.DS
        }

    def believes(self, peer: str) -> bool:
        """Whether a peer's Postfix finds the key that the MTA shows now among its TLSA records."""
        mta = self.lab.office.with_role("mta")[0].fqdn
        finger = ["posttls-finger", "-c", "-t", "60", "-l", "dane-only", "-L", "summary", f"[{mta}]"]
        command = ["docker", "exec", self.lab.container_name(peer), *finger]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return f"Verified TLS connection established to {mta}" in done.stdout + done.stderr

    def until(self, what: str, condition: Callable[[], bool], pace: float = 0.5) -> None:
        """Wait for something, and check every `pace` seconds; a failure ends the rehearsal at once."""

        def came() -> bool:
            if condition():
                return True
            assert not self.log.failures, self.log.failures
            return False

        until(came, what, seconds=PATIENCE, pace=pace)

    # Mail and look-ups, all the while ------------------------------------------------------------------------

    @contextmanager
    def life(self, *, mail: bool = True) -> Iterator[None]:
        """Send mail in every direction and resolve names until the block ends; then all mail has arrived."""
        town = Town(info(self.lab))
        user, outside = town.user(self.user), (town.head_office, town.client_site, town.stranger)
        routes: list[tuple[OfficeUser | Neighbour, OfficeUser | Neighbour]] = []
        routes += [(user, reader) for reader in outside] + [(writer, user) for writer in outside]
        work = [threading.Thread(target=self._guard, args=(self._carry, *route)) for route in routes if mail]
        work += [
            threading.Thread(target=self._guard, args=(action,)) for action in (self._resolve, self._watch)
        ]
        began = time.time()
        for thread in work:
            thread.start()
        try:
            yield
        finally:
            self.stop.set()
            for thread in work:
                thread.join()
        for machine in ("headoffice", "internet", "clientsite", "mta") if mail else ():
            self._read(machine, began)

    def _read(self, machine: str, began: float) -> None:
        """A mail server's log lines about keys of other servers."""
        lines = self.journal(machine, began).splitlines()
        self.log.verified[machine] = sum(1 for line in lines if BELIEF.search(line))
        self.log.failures += [f"{machine}: {line}" for line in lines if DISBELIEF.search(line)]

    def journal(self, machine: str, since: float = 0) -> str:
        """All log lines of a machine's services, since a moment or since its start."""
        command = ["docker", "exec", self.lab.container_name(machine)]
        command += ["journalctl", "--output=cat", "--no-pager", f"--since=@{since:.0f}"]
        return subprocess.run(command, capture_output=True, text=True, check=True, errors="replace").stdout

    def _guard(self, action: Callable[..., None], *arguments: object) -> None:
        try:
            action(*arguments)
        except Exception as error:  # if a thread fails, the rehearsal fails
            self.log.failures.append(f"{type(error).__name__}: {error}")

    def _carry(self, writer: OfficeUser | Neighbour, reader: OfficeUser | Neighbour) -> None:
        while not self.stop.is_set():
            message, token = compose(writer.address, [reader.address])
            self._persist(lambda message=message: writer.send(message, [reader.address]))  # type: ignore[misc]
            arrived = self._persist(lambda token=token: reader.receive(token, patience=180))  # type: ignore[misc]
            if isinstance(writer, OfficeUser):
                self._judge(arrived, token)
            self.log.carried[f"{writer.address} → {reader.address}"] += 1
            self.stop.wait(PACE)

    def _persist(self, action: Callable[[], T]) -> T:
        """Do as mail clients do: open an interrupted session again, and repeat what was deferred."""
        for _ in range(20):
            try:
                return action()
            except (ConnectionError, ssl.SSLEOFError, imaplib.IMAP4.abort, smtplib.SMTPException) as error:
                if isinstance(error, smtplib.SMTPResponseException) and error.smtp_code >= 500:
                    raise
                self.log.again.append(f"{type(error).__name__}: {error}")
                self.stop.wait(2)
        return action()

    def _judge(self, message: bytes, token: str) -> None:
        """Every signature of a message holds, and there is one of each algorithm."""
        algorithms = []
        verifier = dkim.DKIM(message, timeout=10)
        count = sum(1 for name, _ in verifier.headers if name.lower() == b"dkim-signature")
        for index in range(count):
            held = verifier.verify(idx=index, dnsfunc=self._key_record)
            fields = verifier.signature_fields
            selector = fields[b"s"].decode()
            if not held:
                self.log.failures.append(f"{token}: signature {selector} does not hold")
            algorithms.append(fields[b"a"])
            self.log.selectors[selector.rpartition("-")[0]] += 1
        if sorted(algorithms) != [b"ed25519-sha256", b"rsa-sha256"]:
            self.log.failures.append(f"{token}: signed with {algorithms}")

    def _key_record(self, name: bytes, timeout: float = 10) -> bytes | None:
        del timeout
        answer = self._validated(name.decode(), "TXT")
        texts = [
            b"".join(rdata.strings)
            for rrset in answer.answer
            for rdata in rrset
            if rrset.rdtype == dns.rdatatype.TXT
        ]
        return texts[0] if texts else None

    def _resolve(self) -> None:
        """What every sending server resolves before it sends."""
        domain, mta = self.lab.office.domain, self.lab.office.with_role("mta")[0].fqdn
        while not self.stop.is_set():
            for name, rtype in ((domain, "MX"), (domain, "TXT"), (mta, "A"), (f"_25._tcp.{mta}", "TLSA")):
                answer = self._validated(name, rtype)
                if not answer.answer:
                    self.log.failures.append(f"{name} {rtype}: no answer")
            self.stop.wait(0.5)

    def _validated(self, name: str, rtype: str) -> dns.message.Message:
        """A validated answer of a resolver. The query is repeated after no answer, and not after a bogus one."""
        for _ in range(5):
            answer = self.ask(self.resolver, name, rtype, recurse=True)
            self.log.looks += 1
            if answer.flags & dns.flags.AD:
                return answer
            reasons = [option for option in answer.options if isinstance(option, dns.edns.EDEOption)]
            if answer.rcode() == dns.rcode.NOERROR or any(int(reason.code) in BOGUS for reason in reasons):
                break
        answered = f"{dns.rcode.to_text(answer.rcode())} {[reason.to_text() for reason in reasons]}"
        self.log.failures.append(f"{name} {rtype}: not validated: {answered}")
        return answer

    def _watch(self) -> None:
        """Arguments of every process on the controller."""
        while not self.stop.wait(0.2):
            for entry in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.typed.add(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
                except OSError:
                    continue

    # What must stay unsaid ------------------------------------------------------------------------------------

    def secrets_now(self) -> set[str]:
        """Pieces of every secret of the office, long enough not to appear by chance."""
        kept = secrets_file.read(self.lab.directory)
        values = [key.get_secret_value() for pair in kept.dkim.values() for key in (pair.rsa, pair.ed25519)]
        values += [key.get_secret_value() for key in kept.tsig.values()]
        values += [key.key.get_secret_value() for keys in kept.dnssec.values() for key in keys]
        values += [
            pair.key.get_secret_value()
            for pair in (kept.authority, *kept.hosts.values(), *kept.public.values())
        ]
        values += [upcoming.key.get_secret_value() for upcoming in kept.public_next.values()]
        values += [kept.authority_next.pair.key.get_secret_value()] if kept.authority_next else []
        values += [key.get_secret_value() for key in kept.accounts.values()]
        values += [value.get_secret_value() for value in (*kept.passwords.values(), kept.webmail_key)]
        lines = {line.strip() for value in values for line in value.splitlines()}
        return {line for line in lines if len(line) >= 16 and not line.startswith("-----")}
