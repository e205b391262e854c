"""One message across all hosts: what each host logged about it, as hops with delays and TLS.

The hosts search their own journals (``outpost.onhost.mailtrace``) and send only what belongs to the message. A second round
searches for the ids that the first one found: the store knows a Message-ID, the MTA queue ids.
"""

import re
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from outpost.office.model import Office
from outpost.office.role import role_of
from outpost.office.tables.topology import Host
from outpost.onhost import mailtrace
from outpost.target import Target
from outpost.transport import answers
from outpost.transport.remote import of_each, run_script

MOST = 4 * 1024 * 1024
"""Most bytes of a host's answer about messages."""
LONGEST = 2000
"""Most characters of a line that are read."""
LATEST = 2.0**33
LONGEST_NAME, MOST_NAMES = 300, 200
"""Most characters of an identifier, and most identifiers that one host may add."""


@dataclass(frozen=True)
class Hop:
    """One thing that happened to a message.

    Attributes:
        time: Seconds since 1970.
        id: Its queue id there; empty where the host has none.
        delay: Seconds that the message took on this host until then; None where it is not logged.
        parts: The parts of the delay, in words.
        tls: Protection of the connection; empty where there was none, or none is logged.
    """

    time: float
    host: str
    what: str
    id: str = ""
    delay: float | None = None
    parts: str = ""
    tls: str = ""


@dataclass(frozen=True)
class Story:
    """A message and its hops in the order of time."""

    message_id: str
    hops: tuple[Hop, ...]


class Rule(NamedTuple):
    """How a line of a daemon's log is printed.

    Attributes:
        who: Which daemon, as a pattern for its name.
        line: The line, with the printed parts as named groups.
        sentence: The sentence, with those groups as holes.
    """

    who: str
    line: str
    sentence: str

    def hop(self, host: str, line: mailtrace.Line) -> Hop | None:
        """The line as a hop, if the rule matches."""
        if not re.search(self.who, line.who) or not (match := re.search(self.line, line.text)):
            return None
        found = {name: value or "" for name, value in match.groupdict().items()}
        delay = _number(found.get("delay", ""))
        what = answers.line(self.sentence.format_map(found).strip())
        return Hop(
            line.time, host, what, found.get("id", ""), delay, _parts(found.get("delays", "")), _tls(line.tls)
        )


ID = r"^(?P<id>\w{10,20}): "
TO = ID + r"to=(?P<to><[^>]*>),(?: orig_to=\S+)? relay=(?P<relay>[^,]+), (?:conn_use=\d+, )?"
DELIVERY = r"delay=(?P<delay>[\d.]+), delays=(?P<delays>[\d./]+), dsn=\S+, status="
RULES = (
    Rule("dovecot", r"^submission\((?P<user>[^)]*)\)(?>.*?relayed message: ).*queued as (?P<id>\w+)", "submitted by {user}"),
    Rule("smtpd$", ID + r"client=(?P<client>[^,]+), sasl_method=\S+, sasl_username=(?P<user>\S+)", "received from {user} at {client}"),
    Rule("smtpd$", ID + r"client=(?P<client>[^,]+)$", "received from {client}"),
    Rule(
        "rspamd", r"^(?>.*?qid: <)(?P<id>\w+)>(?>.*?\(default: \w \()(?P<action>[^)]*)\): \[(?P<score>[-\d.]+)/",
        "filters: {action}, score {score}",
    ),
    Rule("cleanup$", ID + r"(?P<what>milter-\w+|hold|reject|warning): (?P<why>.*?)(?: from \S+\[.*)?$", "{what}: {why}"),
    Rule("qmgr$", ID + r"from=(?P<sender><[^>]*>), size=(?P<size>\d+), nrcpt=(?P<count>\d+)", "in the queue: {size} bytes from {sender} for {count}"),
    Rule("(smtp|lmtp)$", TO + DELIVERY + r"sent \((?P<reply>.*)\)$", "{to} accepted by {relay}: {reply}"),
    Rule("lmtp$", TO + DELIVERY + r"SOFTBOUNCE \((?P<reply>.*)\)$", "{to} rejected by the store, waits: {reply}"),
    Rule("postfix", TO + DELIVERY + r"(?P<status>deferred|bounced|sent|expired|undeliverable) \((?P<reply>.*)\)$", "{to} {status}: {reply}"),
    Rule("bounce$", ID + r"(?P<what>sender (?:non-delivery|delay|delivery status) notification): (?P<notice>\w+)", "{what} as {notice}"),
    Rule("qmgr$", ID + r"from=(?P<sender><[^>]*>), status=expired", "expired: returned to {sender}"),
    Rule("postsuper$", ID + r"(?P<what>placed on hold|released from hold|expired|requeued|removed)", "{what} by an administrator"),
    Rule(
        "qmgr$", r'^warning: saving corrupt file "(?P<id>\w{10,20})"',
        "its file is damaged and was moved to /var/spool/postfix/corrupt: it will not be delivered",
    ),
    Rule("qmgr$", ID + r"removed$", "finished: removed from the queue"),
    Rule("dovecot", r"^lmtp\((?P<user>[^)]*)\).*(?P<what>stored mail into mailbox '[^']*'|discarded.*|forwarded to \S+)", "{user}: {what}"),
)  # fmt: skip
"""Rules for the hops of a message: the first one that matches a line counts. Other lines are details."""


OWN_ID = re.compile(r"(?:^|reply=`250 2\.0\.0 Ok: queued as )(\w{10,20})(?:: |'$)")
"""Queue ids of the office's own MTAs: at the start of their lines, and in the store's line about the transfer."""

Ask = Callable[[Host, tuple[str, ...]], list[mailtrace.Line]]


def follow(office: Office, identifiers: Iterable[str], ask: Ask) -> list[Story]:
    """The stories of the selected messages, the latest last.

    Args:
        identifiers: Queue ids, Message-IDs, addresses.
        ask: Asks one host for its lines about identifiers.
    """
    hosts = [host for host in office.hosts if role_of(host).traced]
    wanted = tuple(identifiers)
    lines = of_each(hosts, lambda host: ask(host, wanted))
    more = tuple(dict.fromkeys(name for entries in lines.values() for name in _names(entries)))
    if not set(more) <= set(wanted):
        lines = of_each(hosts, lambda host: ask(host, more))
    return stories(lines)


# SYS-08: without it one compromised host makes all others search for any number of messages, and no trace ends any more.
def _names(entries: Iterable[mailtrace.Line]) -> list[str]:
    """Message-IDs and queue ids in a host's lines."""
    found: dict[str, None] = {}
    for line in entries:
        marks = (match[1].strip("<>") for match in mailtrace.MESSAGE_ID.finditer(line.text))
        names = (*marks, *OWN_ID.findall(line.text))
        found.update(dict.fromkeys(name for name in names if len(name) <= LONGEST_NAME))
    return list(found)[:MOST_NAMES]


def stories(lines: Mapping[str, Iterable[mailtrace.Line]]) -> list[Story]:
    """Every host's lines, grouped by message."""
    marks: dict[str, str] = {}
    for line in chain.from_iterable(lines.values()):
        name, mark = mailtrace.QUEUE_ID.match(line.text), mailtrace.MESSAGE_ID.search(line.text)
        if name and mark:
            marks[name[1]] = mark[1]
    found: dict[str, list[Hop]] = defaultdict(list)
    for host, entries in lines.items():
        for line in entries:
            if hop := next((hop for rule in RULES if (hop := rule.hop(host, line))), None):
                mark = mailtrace.MESSAGE_ID.search(line.text)
                found[mark[1] if mark else marks.get(hop.id, hop.id)].append(hop)
    stories = [Story(mark, tuple(sorted(hops, key=lambda hop: hop.time))) for mark, hops in found.items()]
    return sorted(stories, key=lambda story: story.hops[0].time)


def asker(target: Target, office: Office, *, since: str, last: int, via: str | None = None) -> Ask:
    """How the hosts of a running office are asked."""
    program = Path(mailtrace.__file__).read_text(encoding="utf-8")

    def ask(host: Host, identifiers: tuple[str, ...]) -> list[mailtrace.Line]:
        arguments = " ".join(shlex.quote(word) for word in (since, str(last), *identifiers))
        script = f"python3 -I - {arguments} <<'END-OF-PROGRAM'\n{program}\nEND-OF-PROGRAM\n"
        answer = run_script(target, office, host, script, via, most=MOST)
        entries = answers.parsed_lines(answer.splitlines(), mailtrace.Line, host.name)
        if not all(0 <= line.time < LATEST for line in entries):  # NaN fails, too
            raise answers.unexpected(host.name)
        return [replace(line, text=line.text[:LONGEST], tls=line.tls[:LONGEST]) for line in entries]

    return ask


def _parts(delays: str) -> str:
    """Postfix's delays=a/b/c/d (postconf(5), delay_logging_resolution_limit) in words; parts that took no time are left out."""
    names = ("before the queue", "in the queue", "connecting", "handing over")
    return ", ".join(
        f"{value} s {name}" for name, value in zip(names, delays.split("/"), strict=False) if _number(value)
    )


def _number(text: str) -> float | None:
    """Seconds as a daemon writes them; None for anything else."""
    return float(text) if re.fullmatch(r"\d{1,9}(?:\.\d{1,9})?", text) else None


def _tls(text: str) -> str:
    """How it was verified, version, cipher."""
    match = re.match(r"(\w+) (TLSv[\d.]+) with cipher (\S+)", text)
    return " ".join(match.groups()) if match else ""
