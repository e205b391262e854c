"""The ledger: every message that a server accepted is found again in a mailbox, a DSN or a queue.

Clients send at the same time in every direction of the case study, each message under a token of its own. A token is
sent once. What was refused, or not acknowledged, is sent again with a new token: so only servers can double a token.
An attempt that broke after its last byte is counted separately: nobody knows whether its message was accepted. As
RFC 5321 (section 4.5.3.2.6) says, the clients wait ten minutes for that answer.

What neighbours send is acknowledged by their own server, what users send by the office's.
"""

from __future__ import annotations

import json
import queue
import random
import re
import smtplib
import statistics
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from imap_tools import AND

from outpost.evidence.reference import replaced
from outpost.target import ROOT
from outpost_lab.instance import Instance
from outpost_lab.post import Neighbour, OfficeUser, Town, compose
from tests.awaiting import TimeUpError, until

ACKNOWLEDGED_WITHIN = 600.0
"""Seconds a client waits for the answer to its last byte (RFC 5321, section 4.5.3.2.6)."""
PER_SESSION = 10
"""Messages of one submission session, as a mail program's outbox sends them."""
SPOOLS = {
    "headoffice": "postqueue -p",
    "internet": "postqueue -p",
    "clientsite": "exim4 -bp",
}
FLUSH = {"headoffice": "postqueue -f", "internet": "postqueue -f", "clientsite": "exim4 -qff"}
DELIVERED = """
find {maildir}/new {maildir}/cur -type f | sort | while read -r file; do
    stat -c 'F %Y' "$file"
    awk '/^$/ && !body {{ body = 1 }}
         !body && /^Subject: ledger / {{ print "S", $3 }}
         !body && /^From:.*MAILER-DAEMON|^From:.*Mail Delivery System/ {{ report = 1 }}
         report && /^Action: / {{ action = $2 }}
         report && body && /^Subject: ledger / {{ print "R", $3, action }}' "$file"
done
"""


@dataclass(frozen=True, eq=False)
class Way:
    """One direction: sender and recipient."""

    writer: OfficeUser | Neighbour
    reader: OfficeUser | Neighbour

    def __str__(self) -> str:
        return f"{self.writer.address} → {self.reader.address}"


@dataclass
class Entry:
    """An attempt that was made to send a message."""

    token: str
    way: Way
    number: int
    sent: float
    acknowledged: bool | None = None
    """None: its connection broke before the answer."""


@dataclass(frozen=True)
class Found:
    """Where tokens were found.

    Attributes:
        arrived: Token to the moments at which copies of it came into mailboxes.
        returned: Tokens that came back to their sender as failed.
        delayed: Tokens whose senders got a notice of delay.
        order: Mailbox to the tokens in the order in which they lie there.
    """

    arrived: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    returned: set[str] = field(default_factory=set)
    delayed: set[str] = field(default_factory=set)
    order: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True)
class Balance:
    """The result of the ledger; latency in full seconds."""

    seed: int
    acknowledged: int
    delivered: int
    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    returned: tuple[str, ...]
    delayed: int
    unacknowledged: int
    refused: int
    deferred: int
    reordered: int
    median: float
    p95: float
    slowest: float
    seconds: float

    def as_data(self) -> dict[str, Any]:
        return dict(vars(self))

    def doubled_in(self, domain: str) -> tuple[str, ...]:
        """Messages that arrived more than once in mailboxes of the domain.

        The office's store recognises the second copy (QUE-02). Another organisation's server does not: a message that it accepted
        in the seconds before the MTA crashed is sent again (RFC 5321, section 6.1).
        """
        return tuple(one for one in self.doubled if one.endswith(f"@{domain}"))

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.acknowledged} acknowledged, {self.delivered} delivered, {len(self.lost)} lost, "
            f"{len(self.doubled)} doubled, {len(self.returned)} returned, {self.delayed} told late, {self.refused} refused "
            f"for a time and sent again, {self.unacknowledged} without an answer, {self.deferred} times put off by the MTA, {self.reordered} overtaken; "
            f"latency median {self.median:.0f} s, p95 {self.p95:.0f} s, slowest {self.slowest:.0f} s; {self.seconds:.0f} s in all"
        )


class Ledger:
    """One run, with a bounded number of messages and of clients at a time.

    Args:
        seed: Chooses the order of the directions and the sizes.
        messages: How many are sent, each until it is accepted.
        clients: How many send at the same time.
        pace: Seconds a client pauses between two messages, at most.
        on_host: Runs a script on a host of the office, if hosts are not containers.
    """

    def __init__(
        self,
        lab: Instance,
        town: Town,
        *,
        seed: int,
        messages: int,
        clients: int = 6,
        pace: float = 0.2,
        on_host: Callable[[str, str], str] | None = None,
    ) -> None:
        self.on_host = on_host or (lambda host, script: self.on(lab.container_name(host), script))
        self.lab, self.seed, self.clients, self.pace = lab, seed, clients, pace
        self.chance = random.Random(seed)  # noqa: S311  # repeatable on purpose
        self.people, self.outside = town.people, town.outside
        self.machines = {machine.name for machine in lab.machines} & set(SPOOLS)
        self.work: queue.SimpleQueue[tuple[Way, int, int]] = queue.SimpleQueue()
        ways = self._ways()
        numbers: Counter[Way] = Counter()
        for _ in range(messages):
            way = self.chance.choice(ways)
            numbers[way] += 1
            self.work.put((way, numbers[way], self.chance.choice((500, 2_000, 20_000, 200_000))))
        self.messages = messages
        self.begun = 0
        self.allowed = messages
        self.lock = threading.Lock()
        self.entries: list[Entry] = []
        self.errors: list[str] = []
        self.stop = threading.Event()
        self.began = time.time()

    def _ways(self) -> list[Way]:
        """Users to each other and to everybody outside, and back; fewer from strangers, because mailboxes limit their number."""
        inside = [Way(one, other) for one in self.people for other in self.people if one != other]
        out = [Way(user, other) for user in self.people for other in self.outside]
        back = [Way(other, user) for other in self.outside for user in self.people]
        return inside + out + back

    # Sending -------------------------------------------------------------------------------------------------------

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Run the clients until a server has accepted every message."""
        threads = [threading.Thread(target=self._client, daemon=True) for _ in range(self.clients)]
        for thread in threads:
            thread.start()
        try:
            yield
            while any(thread.is_alive() for thread in threads):
                self._until_more(threads, self.taken())
        finally:
            self.stop.set()

    def _until_more(self, threads: Iterable[threading.Thread], taken: int) -> None:
        until(
            lambda: self.taken() > taken or not any(thread.is_alive() for thread in threads),
            f"more than {taken} of {self.messages} messages are taken (last refused: {self.errors[-1:]})",
            seconds=2 * ACKNOWLEDGED_WITHIN,
        )

    def taken(self) -> int:
        """How many messages have been acknowledged so far."""
        return sum(1 for entry in tuple(self.entries) if entry.acknowledged)

    def until_taken(self, count: int, patience: float = 300.0) -> None:
        """Wait until this number of messages has been acknowledged."""
        with suppress(TimeUpError):  # a scenario continues with what there is
            until(
                lambda: self.taken() >= min(count, self.messages),
                f"{count} messages are taken",
                seconds=patience,
            )

    @contextmanager
    def trickling(self, until: int, every: float) -> Iterator[None]:
        """Allow one more message at a fixed interval, up to a number."""
        ended = threading.Event()

        def more() -> None:
            while self.allowed < until and not ended.wait(every):
                self.allowed += 1

        threading.Thread(target=more, daemon=True).start()
        yield
        ended.set()

    def until_allowed(self, count: int, patience: float) -> None:
        """Waits until so many may have been begun."""
        with suppress(TimeUpError):
            until(lambda: self.allowed >= count, f"{count} messages are allowed", seconds=patience)

    def _begins(self) -> bool:
        with self.lock:
            if self.begun >= self.allowed:
                return False
            self.begun += 1
            return True

    def _client(self) -> None:
        chance = random.Random(f"{self.seed} {threading.get_ident()}")  # noqa: S311
        sessions: dict[str, tuple[Any, smtplib.SMTP_SSL, int]] = {}
        while not self.stop.is_set():
            if self.begun < self.messages and not self._begins():
                self.stop.wait(0.1)
                continue
            try:
                way, number, size = self.work.get_nowait()
            except queue.Empty:
                break
            while not self.stop.is_set() and not self._attempt(way, number, size, sessions):
                self.stop.wait(1 + chance.random())
            self.stop.wait(self.pace * chance.random())
        for address in list(sessions):
            self._hang_up(address, sessions)

    def _attempt(self, way: Way, number: int, size: int, sessions: dict[str, Any]) -> bool:
        """Send one token once; returns whether the message needs no other."""
        message, _ = compose(way.writer.address, [way.reader.address], "x" * 70 + "\n")
        entry = Entry(f"{self.seed}-{len(self.entries)}-{random.getrandbits(40):x}", way, number, time.time())
        message.replace_header("Subject", f"ledger {entry.token}")
        message.set_payload(("x" * 70 + "\n") * (size // 71 + 1))
        try:
            if isinstance(way.writer, Neighbour):
                way.writer.send(message, [way.reader.address])
            else:
                self._submit(way.writer, message.as_bytes(), way.reader.address, entry, sessions)
            entry.acknowledged = True
        except (smtplib.SMTPException, OSError, subprocess.CalledProcessError) as error:
            self._hang_up(way.writer.address, sessions)
            permanent = isinstance(error, smtplib.SMTPResponseException) and 500 <= error.smtp_code < 600
            self.errors.append(f"{way}: {type(error).__name__}: {error}"[:300])
            if permanent and error.smtp_code not in (535,):  # type: ignore[union-attr]
                raise
            if entry.acknowledged is not None or not isinstance(way.writer, OfficeUser):
                entry.acknowledged = False
        self.entries.append(entry)
        return bool(entry.acknowledged)

    def _submit(
        self, user: OfficeUser, message: bytes, to: str, entry: Entry, sessions: dict[str, Any]
    ) -> None:
        """Send in the user's open session; a failure before the last byte means that nothing was accepted."""
        entry.acknowledged = False
        if user.address not in sessions or sessions[user.address][2] >= PER_SESSION:
            self._hang_up(user.address, sessions)
            context = user.submission()
            sessions[user.address] = (context, context.__enter__(), 0)
        context, session, count = sessions[user.address]
        sessions[user.address] = (context, session, count + 1)
        for code, reply in (session.mail(user.address), session.rcpt(to), session.docmd("DATA")):
            if code not in (250, 354):
                raise smtplib.SMTPResponseException(code, reply)
        session.sock.settimeout(ACKNOWLEDGED_WITHIN)
        entry.acknowledged = None
        session.send(re.sub(rb"(?m)^\.", b"..", message.replace(b"\n", b"\r\n")) + b".\r\n")
        code, reply = session.getreply()
        if code != 250:
            entry.acknowledged = False
            raise smtplib.SMTPResponseException(code, reply)

    @staticmethod
    def _hang_up(address: str, sessions: dict[str, Any]) -> None:
        if address in sessions:
            context, _, _ = sessions.pop(address)
            with suppress(smtplib.SMTPException, OSError, RuntimeError):
                context.__exit__(None, None, None)

    # Finding -------------------------------------------------------------------------------------------------------

    def look(self) -> Found:
        """Read every mailbox."""
        found = Found()
        for user in self.people:
            self._look_into(user, found)
        for neighbour in self.outside:
            output = self.on(neighbour.container, DELIVERED.format(maildir=neighbour.maildir))
            moment = 0.0
            for line in output.splitlines():
                kind, *rest = line.split()
                if kind == "F":
                    moment = float(rest[0])
                elif rest[0].startswith(f"{self.seed}-"):
                    self._note(found, neighbour.address, kind, rest, moment)
        return found

    def _look_into(self, user: OfficeUser, found: Found) -> None:
        with user.mailbox() as mailbox:
            for message in mailbox.fetch(
                AND(subject=f"ledger {self.seed}-"), headers_only=True, mark_seen=False, bulk=200
            ):
                token = message.subject.split()[1]
                arrived = str(message.obj["Received"]).rpartition(";")[2]
                self._note(found, user.address, "S", [token], _moment(arrived))
            for report in mailbox.fetch(AND(from_="MAILER-DAEMON"), mark_seen=False, bulk=50):
                text = report.obj.as_string()
                action = (re.search(r"^Action: (\w+)", text, re.MULTILINE) or ["", ""])[1]
                for token in set(re.findall(rf"^Subject: ledger ({self.seed}-\S+)", text, re.MULTILINE)):
                    self._note(found, user.address, "R", [token, action], 0.0)

    @staticmethod
    def _note(found: Found, mailbox: str, kind: str, rest: list[str], moment: float) -> None:
        if kind == "S":
            found.arrived[rest[0]].append(moment)
            found.order[mailbox].append(rest[0])
        elif "failed" in rest[1:] or "expired" in rest[1:]:
            found.returned.add(rest[0])
        elif "delayed" in rest[1:]:
            found.delayed.add(rest[0])

    def on(self, container: str, script: str) -> str:
        """The output of a script in a container; the first failing command ends it and the test."""
        command = ["docker", "exec", "--interactive", container, "sh", "-es"]
        done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{container}: {script}: {done.stdout}{done.stderr}"
        return done.stdout

    def waiting(self) -> int:
        """All messages in the queues of all mail servers."""
        count = 0
        outside = [self.on(self.lab.container_name(each), SPOOLS[each]) for each in self.machines]
        for output in [self.on_host("mta", "postqueue -p"), *outside]:
            count += len(
                re.findall(r"^(?:[0-9A-Za-z]{10,20}[*!]?\s+\d+\s\w|\s*\d+[smhd]\s)", output, re.MULTILINE)
            )
        return count

    def settled(self, patience: float) -> Balance:
        """The result, once every acknowledged message has arrived or bounced, or time is up."""

        def all_ended() -> bool:
            for machine in self.machines:  # the waiting time of the neighbours' servers is not measured
                self.on(self.lab.container_name(machine), FLUSH[machine])
            return not self._missing(self.look()) and not self.waiting()

        with suppress(TimeUpError):  # the result names what is missing
            until(all_ended, "every message has come to an end", seconds=patience, pace=2)
        self.on_host("store", "systemctl start outpost-twice.service")  # as every hour
        return self._balance(self.look())

    def _missing(self, found: Found) -> list[Entry]:
        return [
            entry
            for entry in self.entries
            if entry.acknowledged and entry.token not in found.arrived and entry.token not in found.returned
        ]

    def _balance(self, found: Found) -> Balance:
        taken = {entry.token: entry for entry in self.entries if entry.acknowledged}
        unknown = [entry for entry in self.entries if entry.acknowledged is None]
        ways = {entry.token: entry.way for entry in self.entries}
        late = sorted(
            max(0.0, min(found.arrived[token]) - entry.sent)
            for token, entry in taken.items()
            if token in found.arrived
        ) or [0.0]
        return Balance(
            seed=self.seed,
            acknowledged=len(taken),
            delivered=sum(1 for token in taken if token in found.arrived),
            lost=tuple(f"{entry.way} {entry.token}" for entry in self._missing(found)),
            doubled=tuple(
                f"{token} {ways.get(token, 'by nobody')}"
                for token, moments in found.arrived.items()
                if len(moments) > 1
            ),
            returned=tuple(sorted(found.returned)),
            delayed=len(found.delayed),
            unacknowledged=len(unknown),
            refused=sum(1 for entry in self.entries if entry.acknowledged is False),
            deferred=self._deferred(),
            reordered=self._overtaken(found, taken),
            median=statistics.median(late),
            p95=late[int(len(late) * 0.95) - 1] if len(late) > 1 else late[0],
            slowest=late[-1],
            seconds=time.time() - self.began,
        )

    def _deferred(self) -> int:
        """How often the MTA could not deliver a message and kept it."""
        look = f"journalctl --quiet --output=cat --unit=postfix --since=@{self.began:.0f} | grep -c status=deferred || [ $? -eq 1 ]"
        return int(self.on_host("mta", look))

    @staticmethod
    def _overtaken(found: Found, taken: dict[str, Entry]) -> int:
        """Messages that arrived after one that was sent later in the same direction."""
        count = 0
        for tokens in found.order.values():
            last: dict[Way, int] = {}
            for entry in (taken[token] for token in tokens if token in taken):
                count += entry.number < last.get(entry.way, 0)
                last[entry.way] = max(entry.number, last.get(entry.way, 0))
        return count

    def tidy(self) -> None:
        """Remove the messages again: users' mailboxes have a quota."""
        for user in self.people:
            with user.mailbox() as mailbox:
                for criteria in (AND(subject=f"ledger {self.seed}-"), AND(from_="MAILER-DAEMON")):
                    mailbox.delete(mailbox.uids(criteria))
        for neighbour in self.outside:
            pick = f"grep -rlF 'ledger {self.seed}-' {neighbour.maildir} | xargs -r rm -f"
            self.on(neighbour.container, pick)


def run(
    lab: Instance,
    town: Town,
    *,
    seed: int,
    messages: int,
    trouble: Callable[[Ledger], Any] | None = None,
    every: float = 0.5,
    patience: float = 600.0,
    clients: int = 6,
    on_host: Callable[[str, str], str] | None = None,
) -> Balance:
    """Run a ledger with a fault in the middle: a quarter of the messages before it, half during it, the rest after it.

    Args:
        every: Seconds between two messages during the trouble.
    """
    ledger = Ledger(lab, town, seed=seed, messages=messages, clients=clients, on_host=on_host)
    ledger.on_host("mta", "systemctl restart outpost-policy")  # other tests check rates
    ledger.allowed = messages // 4 if trouble else messages
    with ledger.sending():
        if trouble:
            ledger.until_taken(messages // 4)
            with ledger.trickling(messages * 3 // 4, every):
                trouble(ledger)
            ledger.allowed = messages
    balance = ledger.settled(patience)
    if not (balance.lost or balance.doubled or balance.returned):  # otherwise the failure is examined
        ledger.tidy()
    return balance


def keep(lab: Instance, scenario: str, balance: Balance) -> None:
    """Store a result beside the lab's state, for the table in docs/measurements.md."""
    path = lab.directory / "ledger.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    known[f"{scenario}, seed {balance.seed}"] = {"scenario": scenario} | balance.as_data()
    path.write_text(json.dumps(known, indent=1) + "\n")


MARKER = "<!-- the ledger, by `pytest -m slow tests/journeys/test_ledger.py --record` -->"
COUNTED = ("acknowledged", "lost", "doubled", "refused", "deferred", "reordered")


def table(lab: Instance) -> str:
    """The stored results, one row for each scenario: counts over all runs, latency of the slowest run."""
    rows = [
        "| Scenario | Seeds | Acknowledged | Lost | Doubled | Refused for a time | Deferred by the MTA | Overtaken | Latency median, p95 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    kept = json.loads((lab.directory / "ledger.json").read_text()).values()
    for scenario in sorted({each["scenario"] for each in kept}):
        runs = [each for each in kept if each["scenario"] == scenario]
        seeds = ", ".join(str(each["seed"]) for each in runs)
        counts = [
            sum(len(each[what]) if isinstance(each[what], list) else each[what] for each in runs)
            for what in COUNTED
        ]
        slowest = max(runs, key=lambda each: each["median"])
        row = [scenario, seeds, *map(str, counts), f"{slowest['median']:.0f} s, {slowest['p95']:.0f} s"]
        rows.append(f"| {' | '.join(row)} |")
    return "\n".join(rows) + "\n"


def record(lab: Instance) -> None:
    """Write the table of docs/measurements.md."""
    page = ROOT / "docs" / "measurements.md"
    page.write_text(replaced(page.read_text(encoding="utf-8"), table(lab), MARKER), encoding="utf-8")


def _moment(date: str) -> float:
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(date.strip()).timestamp()
    except ValueError:
        return 0.0
