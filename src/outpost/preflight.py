"""What is looked at before the first apply: the machines as they are, and whether the world around them fits.

One script a host, which changes nothing and answers in lines ``KEY VALUE``. A finding is good, worth a note, or bad:
bad is what makes an apply fail or an office that does not work.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from outpost.errors import OutpostError
from outpost.office import Host, Office
from outpost.office.flows import listeners
from outpost.remote import run_script
from outpost.target import Target

RELEASE = "13"
CLOCK = 5
"""Seconds that a clock may differ from the controller's: TSIG and DNSSEC allow more, people's mail should not."""
ROOM_MIB = {"dns": 512, "mta": 4096, "store": 1024, "webmail": 1024}
"""Memory by role; ClamAV's signatures take 1.3 GB, twice that while new ones are loaded."""
OURS = frozenset(
    {
        "chronyd", "clamd", "dovecot", "imap-login", "knotd", "managesieve-logi", "master", "nginx", "python3",
        "redis-server", "rspamd", "smtpd", "sshd", "stunnel4", "submission-logi", "systemd", "unbound",
    }
)  # fmt: skip
"""Programs that an apply brings or expects; any other one that holds a port of the office is in its way."""
_SCRIPT = r"""
. /etc/os-release; echo "release $ID $VERSION_ID"
echo "clock $(date +%s)"
echo "memory $(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)"
echo "disk $(df -Pm / | awk 'NR == 2 { print $4 }')"
echo "user $(id -u)"
for address in $(ip -o addr show 2>/dev/null | awk '{ split($4, a, "/"); print a[1] }'); do echo "address $address"; done
ss -Hltunp 2>/dev/null | awk '{ n = split($5, a, ":"); program = $7; gsub(/^users:\(\("|".*$/, "", program); print "port", $1, a[n], program }'
for test in $TRY_25; do
  if timeout 8 bash -c "exec 3<>/dev/tcp/$test/25 && head -c3 <&3" 2>/dev/null | grep -q 220; then echo "outbound $test"; fi
done
if command -v apt-get >/dev/null; then echo "apt yes"; fi
"""


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        where: A host, or what of the world.
        remedy: What to do; empty where it is good.
    """

    where: str
    level: Literal["good", "note", "bad"]
    seen: str
    remedy: str = ""


def look(target: Target, office: Office, via: str | None, names: tuple[str, ...]) -> list[Finding]:
    """Everything, hosts side by side."""
    hosts = [office.host(name) for name in names]
    with ThreadPoolExecutor(len(hosts)) as pool:
        answers = list(pool.map(lambda host: _ask(target, office, host, via), hosts))
    found: list[Finding] = []
    for host, answer in zip(hosts, answers, strict=True):
        found += [answer] if isinstance(answer, Finding) else judge(office, host, answer, now=time.time())
    found += delegation(office)
    return found


def _ask(target: Target, office: Office, host: Host, via: str | None) -> list[tuple[str, str]] | Finding:
    """Facts of a host as (key, value), or why there are none."""
    tried = (
        "gmail-smtp-in.l.google.com mx1.mailbox.org" if host.role == "mta" and not office.smarthost else ""
    )
    try:
        said = run_script(target, office, host, f"TRY_25='{tried}'\n{_SCRIPT}", via)
    except OutpostError as error:
        return Finding(
            host.name, "bad", f"not reached: {error.message}",
            "is it on, is its address the one in office.toml, is its host key in known_hosts, and does your key open it?",
        )  # fmt: skip
    return [(key, value) for key, _, value in (line.partition(" ") for line in said.splitlines())]


def judge(office: Office, host: Host, facts: list[tuple[str, str]], *, now: float) -> Iterator[Finding]:
    """What the facts of one host mean for its role."""
    first: Mapping[str, str] = dict(reversed(facts))
    yield _release(host, first.get("release", ""))
    yield _clock(host, first.get("clock", "0"), now)
    memory = int(first.get("memory") or 0)
    if memory < ROOM_MIB[host.role]:
        yield Finding(
            host.name, "note", f"{memory} MiB of memory", f"a {host.role} wants {ROOM_MIB[host.role]} MiB"
        )
    present = {value for key, value in facts if key == "address"}
    missing = [str(address) for address in host.all_addresses if str(address) not in present]
    if missing:
        yield Finding(
            host.name, "bad", f"it has no {', '.join(missing)}",
            "set up its addresses as office.toml says, or correct office.toml: Outpost does not configure networks",
        )  # fmt: skip
    else:
        yield Finding(host.name, "good", "has the addresses of the office file")
    yield _ports(office, host, [value for key, value in facts if key == "port"])
    if host.role == "mta" and not office.smarthost:
        yield _outbound(host, any(key == "outbound" for key, _ in facts))


def _release(host: Host, said: str) -> Finding:
    if said == f"debian {RELEASE}":
        return Finding(host.name, "good", f"Debian {RELEASE}")
    return Finding(host.name, "bad", f"runs {said or 'an unknown system'}", f"install Debian {RELEASE} on it")


def _clock(host: Host, said: str, now: float) -> Finding:
    off = int(said) - int(now)
    if abs(off) <= CLOCK:
        return Finding(host.name, "good", "its clock agrees with this machine's")
    return Finding(
        host.name, "note", f"its clock is {abs(off)} s {'ahead' if off > 0 else 'behind'}",
        "apply sets up chrony; if it stays so, look at time.servers and at the hypervisor",
    )  # fmt: skip


def _ports(office: Office, host: Host, lines: list[str]) -> Finding:
    wanted = {(listener.protocol, str(listener.port)) for listener in listeners(office, host)}
    held = []
    for line in lines:
        protocol, port, program = [*line.split(" ", 2), "", ""][:3]
        if (protocol, port) in wanted and program and program not in OURS:
            held.append(f"{port}/{protocol} by {program}")
    if held:
        return Finding(
            host.name, "bad", f"holds ports of the office: {', '.join(sorted(set(held)))}",
            "remove that program: a host does one thing",
        )  # fmt: skip
    return Finding(host.name, "good", "its ports are free, or held by what belongs there")


def _outbound(host: Host, reached: bool) -> Finding:
    if reached:
        return Finding(host.name, "good", "reaches port 25 of others")
    return Finding(
        host.name, "note", "no mail server on the Internet answered on port 25",
        "ask the provider to open port 25 outwards, or name a [smarthost]",
    )  # fmt: skip


def delegation(office: Office) -> Iterator[Finding]:
    """Whether the parent zone sends the world to the office's name servers."""
    import dns.exception
    import dns.resolver

    wanted = {host.fqdn for host in office.with_role("dns")}
    resolver = dns.resolver.Resolver()
    resolver.lifetime = 6
    try:
        answer = resolver.resolve(office.domain, "NS")
        present = {str(record.target).rstrip(".").lower() for record in answer}
    except (dns.exception.DNSException, OSError) as error:
        yield Finding(
            office.domain, "note", f"no delegation seen ({type(error).__name__})",
            f"at the parent zone: NS {', '.join(sorted(wanted))} with glue; mail and certificates wait for it",
        )  # fmt: skip
        return
    if present == wanted:
        yield Finding(office.domain, "good", f"delegated to {', '.join(sorted(present))}")
    else:
        yield Finding(
            office.domain, "bad", f"delegated to {', '.join(sorted(present))}",
            f"at the parent zone: NS {', '.join(sorted(wanted))}, and no other",
        )  # fmt: skip
