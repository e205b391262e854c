"""Probes the routes to peers on the MTA, once a minute: Postfix itself treats only the queue as a whole.

- A next hop that mail waits for is tried every ``retry`` seconds; when it greets again, all that waits for it is
  tried at once (the store's as well: Postfix itself would wait for up to half an hour), and with a next hop on the Internet all
  that waits for the Internet (postqueue -i; F27).
- Mail older than the route's ``lifetime`` returns to its sender with the reason (postsuper -e).
- Large mail that the policy service put on hold leaves when its hours begin (postsuper -H).
- What the filter refused although a backup MX had taken it (X-Office-Held) is on hold for the postmaster. It is deleted
  when it is older than the queue's lifetime: returned it would go to a forged sender. While there is too much of it the
  policy service takes no more mail by a backup MX (HELD_FULL).

Standard library only; it does nothing while nothing waits.
"""

import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SETTINGS = Path("/etc/outpost/routes.json")
STATE = Path("/run/outpost-routes/state.json")
HELD = Path("/var/lib/outpost-policy/large")
BY_NAME = Path("/var/lib/outpost/on-hold")
"""One file for each message that an administrator put on hold (`outpost queue --hold`)."""
QUEUE_ID = re.compile(r"[0-9A-Za-z]{6,20}")
TLS = Path("/etc/outpost/tls")
MANY = 100
"""If more messages than this are tried again, one command does it for the whole queue instead of one for each."""
HELD_FULL = Path("/run/outpost-routes/held-full")
MOST_REFUSED = 500
"""Most refused messages on hold: as many as a postmaster may read in five days, and 12 GB at 25 MB each."""
TIDIED = 600.0
"""Seconds after which the name of a message that is not on hold is removed."""
PATIENCE = 10.0  # seconds for a greeting


@dataclass(frozen=True)
class Route:
    """A peer's route, from the office file.

    Attributes:
        domains: Recipient domains that take it.
        lifetime: Seconds that mail waits for it.
        retry: Seconds between two probes of its next hop.
        hours: When large mail leaves (UTC); empty for any time.
        internet: Whether its next hop answering means that the Internet is there again.
        inside: Whether it is the store: by TLS with the office's certificates on both sides (docs/adr/0007).
    """

    name: str
    domains: tuple[str, ...]
    host: str
    port: int
    lifetime: int
    retry: int
    hours: str = ""
    internet: bool = False
    inside: bool = False


@dataclass(frozen=True)
class Message:
    """A message in the queue."""

    id: str
    queue: str
    arrived: int
    domains: frozenset[str]


@dataclass
class Work:
    """What has to be done now."""

    attempt: list[str] = field(default_factory=list)
    expire: list[str] = field(default_factory=list)
    release: list[str] = field(default_factory=list)


def messages(lines: Iterable[str]) -> list[Message]:
    """The queue, from ``postqueue -j`` (JSON objects, one on each line)."""
    found = []
    for line in filter(None, lines):
        entry = json.loads(line)
        domains = frozenset(one["address"].rpartition("@")[2].lower() for one in entry["recipients"])
        found.append(Message(entry["queue_id"], entry["queue_name"], int(entry["arrival_time"]), domains))
    return found


def within(hours: str, now: float) -> bool:
    """Whether it is between two times of day (UTC), which may span midnight; without hours always."""
    if not hours:
        return True
    begin, end = hours.split("-")
    clock = time.strftime("%H:%M", time.gmtime(now))
    return begin <= clock < end if begin <= end else clock >= begin or clock < end


def due(
    routes: Iterable[Route],
    queue: list[Message],
    held: Iterable[str],
    state: dict[str, Any],
    now: float,
    answers: Callable[[Route], bool],
) -> Work:
    """What has to be done now; `state` stores the time of each next hop's last probe for the next minute."""
    work, routes = Work(), tuple(routes)
    routed = {domain for route in routes for domain in route.domains}
    deferred = [one for one in queue if one.queue == "deferred"]
    # mail that waits for the Internet is also a reason to probe a next hop that is on the Internet
    stranded = [one.id for one in deferred if one.domains - routed]
    back = False
    for route in routes:
        waiting = [one for one in deferred if not one.domains.isdisjoint(route.domains)]
        work.expire += [one.id for one in waiting if now - one.arrived > route.lifetime]
        if not waiting and not (route.internet and stranded):
            state.pop(route.name, None)
            continue
        known = state.setdefault(route.name, {"looked": 0.0, "up": not route.inside})
        if now - known["looked"] < route.retry:
            continue
        up = answers(route)
        if up and not known["up"]:
            work.attempt += [one.id for one in waiting]
            back = back or route.internet
        elif up and route.inside:  # the store was away between two runs: each message is tried once
            work.attempt += [one.id for one in waiting if one.id not in known.get("tried", ())]
        tried = {"tried": [one.id for one in waiting]} if up and route.inside else {}
        state[route.name] = {"looked": now, "up": up, **tried}
    if back:
        work.attempt += stranded
    on_hold = {one.id: one for one in queue if one.queue == "hold"}
    for name in held:
        message = on_hold.get(name)
        waits = [route for route in routes if message and not message.domains.isdisjoint(route.domains)]
        if all(within(route.hours, now) for route in waits):
            work.release.append(name)
    work.attempt = list(dict.fromkeys(work.attempt))
    return work


# SYS-01: without it an intruder in the policy service makes root release what the filter refused, or what an administrator holds.
def large(names: Iterable[str], by_hand: Callable[[str], bool]) -> list[str]:
    """Messages on hold that the policy service names and may have put there: neither the filter nor an administrator did."""
    return [name for name in sorted(names) if not (BY_NAME / name).exists() and by_hand(name)]


def refused(queue: list[Message], by_hand: Callable[[str], bool], lifetime: int, now: float) -> list[str]:
    """Messages on hold that were refused and are older than the queue's lifetime; those put on hold by hand stay."""
    old = [one.id for one in queue if one.queue == "hold" and now - one.arrived > lifetime]
    return [name for name in old if not by_hand(name)]


def held_by_hand(name: str) -> bool:
    """Whether a message on hold was not refused by the filter, by its header."""
    shown = subprocess.run(["postcat", "-hq", name], capture_output=True, check=False)
    return not any(line.startswith(b"X-Office-Held:") for line in shown.stdout.splitlines())


def greets(route: Route) -> bool:
    """Whether a mail server greets there (RFC 5321, section 3.1): then the line is up and the daemon works."""
    with (
        suppress(OSError),
        socket.create_connection((route.host, route.port), PATIENCE) as plain,
        _inside(plain) if route.inside else plain as line,
    ):
        line.settimeout(PATIENCE)
        greeting = line.recv(512)
        line.sendall(b"QUIT\r\n")
        return greeting.startswith(b"220")
    return False


def _inside(line: socket.socket) -> socket.socket:
    """TLS with our certificate. No name is compared: only a greeting is read, and mail follows Postfix's own rules."""
    context = ssl.create_default_context(cafile=str(TLS / "ca.pem"))
    context.check_hostname = False
    context.load_cert_chain(TLS / "host.pem", TLS / "host.key")
    return context.wrap_socket(line)


def main() -> int:
    settings = json.loads(SETTINGS.read_text())
    routes = [Route(**{**entry, "domains": tuple(entry["domains"])}) for entry in settings["routes"]]
    listed = subprocess.run(
        ["postqueue", "-j"], capture_output=True, text=True, errors="replace", check=False
    )
    if listed.returncode == os.EX_UNAVAILABLE:
        return 0  # Postfix does not run, an apply may be starting it: no mail can leave, and its own unit reports that
    listed.check_returncode()
    queue = messages(listed.stdout.split("\n"))
    place = _place()
    names = {name for name in os.listdir(place) if QUEUE_ID.fullmatch(name)} if place is not None else set()  # noqa: PTH208  # by descriptor
    on_hold = {one.id: one for one in queue if one.queue == "hold"}
    held = large(names & on_hold.keys(), held_by_hand)
    state: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        state = json.loads(STATE.read_text())
    work = due(routes, queue, held, state, time.time(), greets)
    STATE.write_text(json.dumps(state))
    others = [one for one in on_hold.values() if one.id not in held]
    HELD_FULL.touch() if len(others) >= MOST_REFUSED else HELD_FULL.unlink(missing_ok=True)
    old = refused(others, held_by_hand, settings["lifetime"], time.time())
    _postsuper(old, "refused messages of a backup MX deleted: nobody released them", "-d", "-", "hold")
    _postsuper(work.expire, "older than their route keeps mail, returned", "-e", "-")
    if len(work.attempt) > MANY:
        subprocess.run(["postqueue", "-f"], check=False)
    for name in (*work.expire, *(work.attempt if len(work.attempt) <= MANY else ())):
        subprocess.run(["postqueue", "-i", name], check=False)
    _postsuper(work.release, "large messages released, their hours have begun", "-H", "-")
    for name in (*work.release, *sorted(names - on_hold.keys())):
        with suppress(OSError):
            # a message is named a moment before it is on hold
            if name in on_hold or time.time() - os.lstat(name, dir_fd=place).st_mtime > TIDIED:
                os.unlink(name, dir_fd=place)
    if work.attempt:
        sys.stdout.write(f"{len(work.attempt)} messages tried again, their next hop answers\n")
    return 0


def _place() -> int | None:
    """Open the policy service's own directory, and follow no link of that service: this program is root."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    with suppress(OSError):
        above = os.open(HELD.parent, flags)
        try:
            return os.open(HELD.name, flags, dir_fd=above)
        finally:
            os.close(above)
    return None


def _postsuper(names: list[str], what: str, *arguments: str) -> None:
    if names:
        subprocess.run(["postsuper", *arguments], input="\n".join(names) + "\n", text=True, check=False)
        sys.stdout.write(f"{len(names)} {what}\n")


if __name__ == "__main__":
    sys.exit(main())
