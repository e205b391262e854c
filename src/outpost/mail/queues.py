"""The queues of an office's MTAs: what waits, why, for how long; and hold and release."""

import re
import shlex
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Literal, NamedTuple, NotRequired

from pydantic import Field, StringConstraints
from typing_extensions import TypedDict

from outpost.errors import OutpostError
from outpost.office.model import Office
from outpost.office.role import serving
from outpost.onhost.observe.kept_by_daemons import NOTED
from outpost.target import Target
from outpost.transport import answers
from outpost.transport.remote import run_script

QUEUE_ID = re.compile(r"[0-9A-Za-z]{10,20}")
CORRUPT_FILE = re.compile(r"([0-9A-Za-z]{6,20}) ([0-9]{1,12})(?:\.[0-9]{1,12})? ([0-9]{1,13})")
"""Name, time and size of a file that Postfix could not read, as find(1) prints them."""
LARGE = "/var/lib/outpost-policy/large"
CORRUPT = "/var/spool/postfix/corrupt"
DAMAGED = f"its file is damaged and will not be delivered: `./outpost trace OFFICE ID` shows who sent it, `less {CORRUPT}/ID` what is left"
LISTING = f"""
find {CORRUPT} -maxdepth 1 -type f -printf 'corrupt %f %T@ %s\\n' 2>/dev/null | head -n 1000
ls {LARGE} 2>/dev/null | sed 's/^/large /'
postqueue -j | sed 's/^/message /'
"""


class _Recipient(TypedDict):
    address: str
    delay_reason: NotRequired[str]


class _Entry(TypedDict):
    """A line of ``postqueue -j`` (postqueue(1))."""

    queue_name: Literal["incoming", "active", "deferred", "hold", "maildrop", "corrupt"]
    queue_id: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z]{6,20}$")]
    arrival_time: Annotated[int, Field(ge=0, le=2**40)]
    message_size: Annotated[int, Field(ge=0, le=2**40)]
    sender: str
    recipients: list[_Recipient]


class Waiting(NamedTuple):
    """A message in a queue.

    Attributes:
        queue: ``incoming``, ``active``, ``deferred`` or ``hold`` (qmgr(8)); ``corrupt`` where Postfix cannot read it any more.
        reasons: Recipient to why it was not delivered; empty while it has not been tried.
        routes: Where its recipients' mail goes: peers' names, ``store``, ``Internet``.
    """

    host: str
    id: str
    queue: str
    arrived: int
    size: int
    sender: str
    reasons: Mapping[str, str]
    routes: tuple[str, ...]


def listed(office: Office, host: str, answer: str) -> list[Waiting]:
    """The queue from a host's answer to `LISTING`, the oldest message first."""
    lines = [line.partition(" ")[::2] for line in answer.split("\n") if line]
    large = {text for kind, text in lines if kind == "large"}
    found = []
    for entry in answers.parsed_lines((text for kind, text in lines if kind == "message"), _Entry, host):
        reasons = {
            answers.line(one["address"]): answers.line(one.get("delay_reason", ""))
            for one in entry["recipients"]
        }
        routes = tuple(sorted({route(office, address) for address in reasons}))
        if entry["queue_name"] == "hold":
            why = f"large: leaves at {_hours(office, routes)}" if entry["queue_id"] in large else "on hold"
            reasons = {address: reason or why for address, reason in reasons.items()}
        found.append(
            Waiting(
                host, entry["queue_id"], entry["queue_name"], entry["arrival_time"], entry["message_size"],
                answers.line(entry["sender"]), reasons, routes,
            )
        )  # fmt: skip
    for text in (text for kind, text in lines if kind == "corrupt"):
        if not (damaged := CORRUPT_FILE.fullmatch(text)):
            raise answers.unexpected(host)
        name, moment, octets = damaged.groups()
        found.append(
            Waiting(
                host, name, "corrupt", int(moment), int(octets), "unknown",
                {"unknown": DAMAGED.replace("ID", name)}, ("damaged",),
            )
        )  # fmt: skip
    return sorted(found, key=lambda message: message.arrived)


def route(office: Office, address: str) -> str:
    domain = address.rpartition("@")[2].lower()
    if domain == office.domain:
        return "store"
    return next((peer.name for peer in office.peers if domain in peer.domains), "Internet")


def _hours(office: Office, routes: tuple[str, ...]) -> str:
    hours = [peer.large_hours.partition("-")[0] for peer in office.peers if peer.name in routes]
    return f"{hours[0]} UTC" if hours else "its hours"


def waiting(target: Target, office: Office, via: str | None = None) -> list[Waiting]:
    return [
        message
        for host in serving(office, "transport")
        for message in listed(office, host.name, run_script(target, office, host, LISTING, via))
    ]


def chosen(messages: Iterable[Waiting], wanted: Iterable[str]) -> list[Waiting]:
    """Messages that words select: ``all``, a queue id, an address, ``@domain`` or a route."""
    messages = [message for message in messages if message.queue != "corrupt"]
    found: dict[tuple[str, str], Waiting] = {}
    for word in wanted:
        meant = [message for message in messages if _means(word, message)]
        if not meant:
            remedy = "give all, a queue id, an address, @domain, or a route (a peer's name, store, Internet)"
            raise OutpostError(f"no message in the queue matches {word}", remedy)
        found |= {(message.host, message.id): message for message in meant}
    return list(found.values())


def _means(word: str, message: Waiting) -> bool:
    if word in ("all", message.id, message.sender) or word in message.routes or word in message.reasons:
        return True
    return word.startswith("@") and any(address.endswith(word) for address in message.reasons)


def release(messages: Iterable[Waiting], target: Target, office: Office, via: str | None = None) -> None:
    """Release it from hold, and try it at once."""
    # not as root: the directory is the policy service's, and could be a link to another place
    mark = "setpriv --reuid=outpost-policy --regid=outpost-policy --clear-groups rm -f {large}/{id}"
    commands = f"postsuper -H {{id}}; {mark}; rm -f {NOTED[1]}/{{id}}; postqueue -i {{id}}"
    _on_hosts(messages, commands, target, office, via)


def hold(messages: Iterable[Waiting], target: Target, office: Office, via: str | None = None) -> None:
    """Put it on hold until somebody releases it; messages on hold do not expire."""
    commands = f"mkdir -p -m 0700 {NOTED[1]}; : > {NOTED[1]}/{{id}}; postsuper -h {{id}}"
    _on_hosts(messages, commands, target, office, via)


def _on_hosts(
    messages: Iterable[Waiting], commands: str, target: Target, office: Office, via: str | None
) -> None:
    by_host: dict[str, list[str]] = {}
    for message in messages:
        if not QUEUE_ID.fullmatch(message.id):
            raise OutpostError(f"{message.id} is not a queue id")
        by_host.setdefault(message.host, []).append(message.id)
    for name, ids in by_host.items():
        lines = ["set -e", *(commands.format(id=shlex.quote(one), large=LARGE) for one in ids), ""]
        run_script(target, office, office.host(name), "\n".join(lines), via)


def by_route(messages: Collection[Waiting]) -> list[tuple[str, int, int, str]]:
    """Route, number of messages, age of the oldest in seconds, and the most frequent reason."""
    found, now = [], time.time()
    for name in sorted({name for message in messages for name in message.routes}):
        those = [message for message in messages if name in message.routes]
        reasons = Counter(reason for message in those for reason in message.reasons.values() if reason)
        usual = max(reasons, key=reasons.__getitem__, default="not tried yet")
        found.append((name, len(those), int(now - min(one.arrived for one in those)), usual))
    return found
